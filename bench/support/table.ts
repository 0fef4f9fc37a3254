/** Plain text tables: the first column to the left, numbers to the right. */

/** Formats rows under headings, columns two spaces apart. */
export const table = (
  headings: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<string>>,
): string => {
  const all = [headings, ...rows]
  const widths = headings.map((_, column) =>
    Math.max(...all.map((row) => (row[column] ?? "").length))
  )
  const line = (row: ReadonlyArray<string>) =>
    widths.map((width, column) => {
      const cell = row[column] ?? ""
      return column === 0 ? cell.padEnd(width) : cell.padStart(width)
    }).join("  ").trimEnd()
  return [line(headings), widths.map((width) => "-".repeat(width)).join("  "), ...rows.map(line)]
    .join("\n")
}

const grouped = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 })

/** A whole number with thousands separated. */
export const whole = (value: number): string => grouped.format(value)

/** A number with a fixed count of decimals; `–` for one that wasn't measured. */
export const decimal = (value: number | undefined, digits: number): string =>
  value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits)

/** A share as a percentage. */
export const percent = (share: number): string => `${(share * 100).toFixed(0)} %`

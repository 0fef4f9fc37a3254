// Reads the JUnit reports of the three test runners into one shape.

const testcase = /<testcase((?:\s+[\w:-]+="[^"]*")*)\s*(?:\/>|>([\s\S]*?)<\/testcase>)/g

/**
 * Counts the tests of a report. A `describe` is no test, a skipped or planned test is neither passed
 * nor failed. Returns undefined for a report that breaks off, as it does when the runner died.
 */
export function count(xml) {
  if (!xml.trimEnd().endsWith("</testsuites>")) return undefined
  const cases = [...xml.matchAll(testcase)].map(([, attributes, body = ""]) => ({
    name: /\sname="([^"]*)"/.exec(attributes)[1],
    failed: /<(failure|error)\b/.test(body),
    skipped: /<skipped\b/.test(body),
    // How Deno marks a describe block whose only fault is a failed test inside it.
    onlyInside: /^\s*<failure message="\d+ test steps? failed"/.test(body),
  }))
  const failed = cases.filter((test) => test.failed && !test.skipped && !test.onlyInside)
  // Deno reports a describe block as a test, and its tests as steps named "block > test".
  const isBlock = ({ name }) => cases.some((other) => other.name.startsWith(`${name} &gt; `))
  const others = cases.filter((test) => !test.failed && !test.onlyInside && !isBlock(test))
  return {
    passed: others.filter((test) => !test.skipped).length,
    failed: failed.length,
    skipped: others.filter((test) => test.skipped).length,
  }
}

/**
 * Reads what the runs of the tests have left in a folder: for each its results (NAME.json), what it printed (NAME.log)
 * and how it ended (NAME.status), and for the second run of files that had failed the same under NAME.again.
 *
 * `report.mjs failed FOLDER NAME` prints the files that failed in a run, a line each.
 *
 * `report.mjs summary FOLDER` prints every failure with its message, then "N passed, N failed, N skipped". It fails
 * when a test failed both times or a property was refuted, when something failed outside of any test, or when no test
 * has run.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs"
import { join, relative } from "node:path"

const [, , command, folder, run] = process.argv

const text = (name) => (existsSync(join(folder, name)) ? readFileSync(join(folder, name), "utf8") : undefined)

const fileName = (file) => relative(process.cwd(), file.name)

const isFailed = ({ status }) => status === "failed"

/** Name and message of each test that failed in a file; a file may also fail without any, when it does not load. */
const failuresOf = (file) => {
  const tests = file.assertionResults
    .filter(isFailed)
    .map((test) => ({ name: `${fileName(file)} > ${test.fullName}`, message: test.failureMessages.join("\n") }))
  return tests.length > 0 || !isFailed(file) ? tests : [{ name: fileName(file), message: file.message }]
}

const read = (name) => {
  const report = JSON.parse(text(`${name}.json`) ?? "null")
  const files = report?.testResults ?? []
  const failures = files.flatMap(failuresOf)
  const printed = text(`${name}.log`) ?? ""
  return {
    failedFiles: files.filter(isFailed).map(fileName),
    failures,
    passed: report?.numPassedTests ?? 0,
    skipped: (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0),
    printed,
    /** It failed, and not by a test alone: an error outside of any, or no report. */
    failedOutside:
      text(`${name}.status`)?.trim() !== "0" && (failures.length === 0 || /Unhandled Errors?/.test(printed))
  }
}

/** What the runner prints of errors at its end, or its last lines. */
const errors = ({ printed }) => {
  const lines = printed.split("\n")
  const start = lines.findIndex((line) => /Failed (Suites|Tests)|Unhandled Errors?/.test(line))
  return (start < 0 ? lines.slice(-40) : lines.slice(start, start + 80)).join("\n")
}

const print = (title, failures) => {
  for (const { name, message } of failures) console.log(`${title}: ${name}\n${message.slice(0, 4000)}\n`)
}

if (command === "failed") {
  for (const file of read(run).failedFiles) console.log(file)
} else {
  let passed = 0
  let failed = 0
  let skipped = 0
  for (const file of readdirSync(folder).filter((name) => /^[^.]+\.status$/.test(name))) {
    const name = file.replace(".status", "")
    const first = read(name)
    const again = text(`${name}.again.status`) === undefined ? undefined : read(`${name}.again`)
    const failedAgain = new Set(again?.failures.map((failure) => failure.name))
    // A property that passes with other random values has still been refuted.
    const stays = ({ name, message }) =>
      again === undefined || again.failedOutside || failedAgain.has(name) || /Property failed after/.test(message)
    const once = first.failures.filter((failure) => !stays(failure))
    print(`FAILED ONCE, passed when it ran again (${name})`, once)
    print(`FAILED (${name})`, first.failures.filter(stays))
    passed += first.passed + once.length
    failed += first.failures.length - once.length
    skipped += first.skipped
    if (first.failedOutside) {
      console.log(`FAILED outside of any test (${name}):\n${errors(first)}\n`)
      failed++
    }
  }
  if (passed === 0) failed++
  console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`)
  process.exit(failed === 0 ? 0 : 1)
}

/** What a JUnit report counts. */
export interface Counts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
}

const TEST_CASE = /<testcase((?:\s+[\w:-]+="[^"]*")*)\s*(?:\/>|>([\s\S]*?)<\/testcase>)/g;

/** Counts the test cases of a JUnit report. */
export function countJunit(xml: string): Counts {
  let passed = 0;
  let failed = 0;
  let skipped = 0;
  for (const [, attributes = "", body = ""] of xml.matchAll(TEST_CASE)) {
    if (/<(failure|error)\b/.test(body)) failed++;
    // Node reports a file that declares no test as a test that passed.
    else if (/\sname="[^"]*\.test\.ts"/.test(attributes)) continue;
    else if (/<skipped\b/.test(body)) skipped++;
    else passed++;
  }
  return { passed, failed, skipped };
}

/**
 * `assert.deepStrictEqual` of vitest means Node's in each test file. Chai's own compares nothing that a prototype has, so
 * it takes `Option.none()` for `Option.some(1)`, and a test that compares them cannot fail.
 */
import { isDeepStrictEqual } from "node:util"
import { chai } from "vitest"

chai.config.deepEqual = isDeepStrictEqual

// A secret driver of a simulated manager: it takes its time, and is away now and then.

import { type Clock, sleep } from '../../src/lib/clock.ts'
import { CodedError } from '../../src/lib/errors.ts'
import type { SeededRandom } from '../../src/lib/random.ts'
import type { SecretDrivers } from '../../src/manager/dispatcher/secret-request.ts'

const SLOWEST_MS = 3_000
const AWAY = 0.2

export function simulatedSecretDriver(clock: Clock, random: SeededRandom): SecretDrivers {
  return {
    async get(_driver, { TaskID }, signal) {
      await sleep(clock, random.below(SLOWEST_MS), signal)
      if (random.float() < AWAY) throw new CodedError('PLUGIN_UNREACHABLE', 'the driver is away', { retryable: true })
      return Buffer.from(`for ${TaskID}`)
    },
  }
}

// Our answers beside those that a real dockerd 20.10 in Swarm mode gave to the same requests.

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { serveApi } from '../support/served-api.ts'
import { exchange, type Recorded } from './exchange.ts'
import { REQUESTS } from './requests.ts'

const recorded = JSON.parse(
  readFileSync(join(process.cwd(), 'test/conformance/recorded-20.10.json'), 'utf8'),
) as readonly Recorded[]

t.test('dockerd and swarmd answer the same requests alike', async (t) => {
  const { socket } = await serveApi(t)
  const ours = await exchange(socket)
  t.equal(recorded.length, REQUESTS.length, 'record.ts was run after the last change of requests.ts')
  for (const [index, docker] of recorded.entries()) {
    const difference = REQUESTS[index]?.ours
    const expected = {
      ...docker,
      status: difference?.status ?? docker.status,
      message: difference?.message ?? docker.message,
    }
    const shown = (answer: unknown) =>
      JSON.stringify(answer, (key, value: unknown) => (difference?.endpoint && key === 'Endpoint' ? null : value), 1)
    const name = `${docker.request} ${JSON.stringify(REQUESTS[index]?.body ?? '').slice(0, 80)}${difference ? ` (${difference.why})` : ''}`
    t.equal(shown(ours[index]), shown(expected), name)
  }
})

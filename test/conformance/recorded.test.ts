// Our answers beside those that a real dockerd 20.10 in Swarm mode gave to the same requests.

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { standInEngine } from '../support/api-client.ts'
import { ApiCluster } from '../support/api-cluster.ts'
import { exchange, type Recorded } from './exchange.ts'
import { REQUESTS } from './requests.ts'

const recorded = JSON.parse(
  readFileSync(join(process.cwd(), 'test/conformance/recorded-20.10.json'), 'utf8'),
) as readonly Recorded[]

t.test('dockerd and swarmd answer the same requests alike', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-recorded-'))
  const engine = await standInEngine(join(folder, 'engine.sock'))
  const cluster = new ApiCluster()
  const server = new ApiServer({
    cluster,
    engine: { kind: 'unix', path: engine.path },
    clock: new SystemClock(),
    random: cluster.random,
    log: silentLog,
    version: '0',
  })
  const socket = join(folder, 's.sock')
  await server.listen({ kind: 'unix', path: socket })
  t.teardown(async () => {
    await server.close()
    await engine.close()
    rmSync(folder, { recursive: true })
  })
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

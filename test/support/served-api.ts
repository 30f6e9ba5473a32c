/** swarmd's API on a unix socket, over a cluster in memory and a stand-in for the engine; gone at the end of the test. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { ApiServer } from '../../src/daemon/api/api-server.ts'
import { SystemClock } from '../../src/lib/clock.ts'
import { silentLog } from '../../src/lib/log.ts'
import { type StandInEngine, standInEngine } from './api-client.ts'
import { ApiCluster } from './api-cluster.ts'

export interface ServedApi {
  readonly folder: string
  readonly socket: string
  readonly engine: StandInEngine
  readonly cluster: ApiCluster
}

export async function serveApi(test: { teardown(handler: () => Promise<void>): void }): Promise<ServedApi> {
  const folder = mkdtempSync(join(tmpdir(), 'swarmd-api-'))
  const engine = await standInEngine(join(folder, 'engine.sock'))
  const cluster = new ApiCluster()
  const server = new ApiServer({
    cluster,
    engine: { kind: 'unix', path: engine.path },
    clock: new SystemClock(),
    random: cluster.random,
    log: silentLog,
    version: '1.2.3',
  })
  const socket = join(folder, 'swarmd.sock')
  await server.listen({ kind: 'unix', path: socket })
  test.teardown(async () => {
    await server.close()
    await engine.close()
    rmSync(folder, { recursive: true })
  })
  return { folder, socket, engine, cluster }
}

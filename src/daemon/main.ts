// swarmd: reads its flags, builds the parts and ties them together, stops cleanly on SIGINT and SIGTERM.

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { NodeDescription } from '../api/spec.ts'
import { SystemClock, sleep } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { createLog, type Log } from '../lib/log.ts'
import { SystemRandom } from '../lib/random.ts'
import { VERSION } from '../lib/version.ts'
import { buildOf } from '../overlay/build-of.ts'
import { CONTROL_FILE } from '../overlay/control-protocol.ts'
import { hostRoutes } from '../overlay/host-facts.ts'
import { NetClient } from '../overlay/net-client.ts'
import { TaskSocket } from '../worker/docker/task-socket.ts'
import { ApiServer } from './api/api-server.ts'
import type { ListenAddress } from './api/connections.ts'
import { Engine } from './api/engine.ts'
import { refuseEnginesSwarm } from './api/swarm-routes.ts'
import { lockDirectory } from './directory-lock.ts'
import { DiskWatch } from './disk/disk-watch.ts'
import { ReserveFile } from './disk/reserve-file.ts'
import type { MetricsServer } from './metrics/metrics-server.ts'
import { Sampler } from './metrics/sampler.ts'
import { netProgram, removeNetProcess, startNetProcess } from './net-process.ts'
import { type DaemonOptions, parseEngineAddress, parseOptions } from './options.ts'
import { netLog, ownLog } from './support/log-tail.ts'
import { supportBundle } from './support/support-bundle.ts'
import { Swarmd } from './swarmd.ts'

/** A second swarmd that serves the same directories would fight with the first. */
async function writePidfile(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o755 })
  const old = Number(await readFile(path, 'utf8').catch(() => ''))
  if (old > 0 && old !== process.pid && (await isSwarmd(old))) {
    throw new CodedError(
      'ALREADY_RUNNING',
      `swarmd is already running with process id ${old} (${path}): stop it first, or give this one its own --exec-root and --data-root`,
    )
  }
  await writeFile(path, `${process.pid}\n`)
}

/** A number in a left-over file may be another program's by now. */
async function isSwarmd(pid: number): Promise<boolean> {
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return command.includes('swarmd')
}

const RESERVE_FILE = 'reserve'

async function groupId(name: string): Promise<number | undefined> {
  const groups = await readFile('/etc/group', 'utf8').catch(() => '')
  const line = groups.split('\n').find((entry) => entry.startsWith(`${name}:`))
  const id = Number(line?.split(':')[2])
  return line && Number.isInteger(id) ? id : undefined
}

/** What this machine's flags add to what its engine says. */
function describer(options: DaemonOptions): (engine: NodeDescription) => NodeDescription {
  return (engine) => ({
    ...engine,
    Engine: { ...engine.Engine, Labels: { ...engine.Engine?.Labels, ...options.engineLabels } },
    ...(options.genericResources.length > 0 && {
      Resources: { ...engine.Resources, GenericResources: options.genericResources },
    }),
  })
}

async function listen(server: ApiServer, address: ListenAddress, group: number | undefined, log: Log): Promise<void> {
  if (address.kind === 'unix') await mkdir(dirname(address.path), { recursive: true, mode: 0o755 })
  await server.listen(address.kind === 'unix' && group !== undefined ? { ...address, groupId: group } : address)
  const where = address.kind === 'unix' ? `unix://${address.path}` : `tcp://${address.host}:${address.port}`
  log.info({ address: where }, 'API listens')
  if (address.kind === 'tcp' && !address.tls) {
    log.warn({ address: where }, 'the API on this address is open to everybody who reaches it: root on this machine')
  }
}

async function run(options: DaemonOptions, log: Log): Promise<void> {
  await mkdir(options.dataRoot, { recursive: true, mode: 0o711 })
  const lock = await lockDirectory(options.dataRoot)
  try {
    await writePidfile(options.pidfile)
    await serve(options, log)
  } finally {
    lock.release()
  }
}

/** How long the start waits for the engine to say whether it is in swarm mode itself. */
const ENGINE_ANSWER_MS = 500

async function serve(options: DaemonOptions, log: Log): Promise<void> {
  const clock = new SystemClock()
  const random = new SystemRandom()
  const engineAddress = parseEngineAddress(options.engine)
  const taskSocket = new TaskSocket({
    execRoot: options.execRoot,
    listen: async (path) => void (await server.listen({ kind: 'unix', path })),
    log,
  })
  const dataPlane = newDataPlane(options, clock, log)
  const disk = new DiskWatch({
    dataRoot: options.dataRoot,
    reserve: new ReserveFile(join(options.dataRoot, 'swarm', RESERVE_FILE), options.diskReserveBytes),
    engineRoot: () => engineRoot(new Engine(engineAddress, clock)),
    pressureLimit: options.diskPressure,
    clock,
    log,
  })
  const swarmd = new Swarmd({
    dataPlane,
    disk,
    dataRoot: options.dataRoot,
    execRoot: options.execRoot,
    engine: options.engine,
    defaultAdvertiseAddress: options.defaultAdvertiseAddress,
    dockerSocket: () => taskSocket.source(),
    hostRoutes,
    describe: describer(options),
    forwarded: { request: (message, response) => server.handleForwarded(message, response) },
    localApi: () => server.dial(),
    onChange: () => server.clusterChanged(),
    clock,
    random,
    log,
  })
  const sampler = new Sampler({
    facts: () => swarmd.facts(),
    engine: new Engine(engineAddress, clock),
    dataPlane: (kernel, signal) => dataPlane.statistics(kernel, signal),
    dataRoot: options.dataRoot,
    disk: () => disk.state,
    clock,
  })
  const logs = {
    'swarmd.log': ownLog,
    'swarmd-net.log': () => netLog(join(options.execRoot, 'net', 'swarmd-net.log')),
  }
  const server: ApiServer = new ApiServer({
    cluster: swarmd,
    engine: engineAddress,
    supportBundle: () =>
      supportBundle({ sample: () => sampler.take(true), engine: new Engine(engineAddress, clock), logs, clock }),
    clock,
    random,
    log,
    version: VERSION,
  })
  let metrics: MetricsServer | undefined
  const watching = new AbortController()
  const watched = disk.run(watching.signal)
  const stopped = new Promise<string>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve(signal))
  })
  try {
    // First, so that it says what the rest waits for.
    metrics = await serveMetrics(options, sampler, log)
    // A booting engine takes connections and answers once it has its networks, for which it needs our driver.
    const refused = (await swarmd.isMember()) && refuseSwarmWhereReachable(new Engine(engineAddress, clock), log)
    if (refused) await Promise.race([refused, sleep(clock, ENGINE_ANSWER_MS)])
    await swarmd.start()
    const group = await groupId(options.group)
    for (const host of options.hosts) await listen(server, host, group, log)
    await listen(server, { kind: 'unix', path: join(options.execRoot, 'cluster.sock'), clusterView: true }, group, log)
    await taskSocket.renew()
    const refusedLate = Promise.resolve(refused).then(() => new Promise<never>(() => {}))
    const signal = await Promise.race([stopped, swarmd.fatal, refusedLate])
    log.info({ signal }, 'stopping')
  } finally {
    await metrics?.close()
    await server.close()
    await swarmd.close()
    watching.abort()
    await watched
    await dataPlane.close()
    await rm(options.pidfile, { force: true })
  }
}

/** Where the engine keeps images and containers; undefined: it does not say. */
async function engineRoot(engine: Engine): Promise<string | undefined> {
  const { DockerRootDir } = JSON.parse((await engine.get('/info')).body) as { readonly DockerRootDir?: string }
  return DockerRootDir || undefined
}

/** Whoever does not ask for metrics does not load what makes them. */
async function serveMetrics(
  { metricsAddress }: DaemonOptions,
  sampler: Sampler,
  log: Log,
): Promise<MetricsServer | undefined> {
  if (!metricsAddress) return undefined
  const { MetricsServer: Server } = await import('./metrics/metrics-server.ts')
  const server = new Server({ sampler, log })
  const port = await server.listen(metricsAddress.host, metricsAddress.port)
  log.info({ host: metricsAddress.host, port }, 'metrics are served')
  return server
}

function newDataPlane(options: DaemonOptions, clock: SystemClock, log: Log): NetClient {
  const runDirectory = join(options.execRoot, 'net')
  const netProcess = { stateDirectory: join(options.dataRoot, 'net'), runDirectory, log }
  const program = netProgram()
  return new NetClient({
    socketPath: join(runDirectory, CONTROL_FILE),
    program,
    build: () => buildOf(program),
    start: () => startNetProcess(netProcess),
    remove: () => removeNetProcess(netProcess),
    clock,
    log,
  })
}

/** An engine that does not answer yet will be waited for; one that is a swarm itself never fits. */
async function refuseSwarmWhereReachable(engine: Engine, log: Log): Promise<void> {
  try {
    await refuseEnginesSwarm(engine)
  } catch (error) {
    if (errorCode(error) === 'ENGINE_IN_SWARM_MODE') throw error
    log.warn({ reason: errorMessage(error) }, 'the engine does not answer yet')
  }
}

async function main(): Promise<void> {
  let log = createLog({ level: 'info' })
  try {
    const options = await parseOptions(process.argv.slice(2), VERSION)
    log = createLog({ level: options.logLevel, format: options.logFormat })
    await run(options, log)
    process.exit(0)
  } catch (error) {
    const code = errorCode(error)
    if (error instanceof CodedError) process.stderr.write(`swarmd: ${error.message}\n`)
    if (code === 'INVALID_FLAG') {
      process.stderr.write('Run "swarmd --help" for its flags.\n')
      process.exit(125)
    }
    const coded = error instanceof CodedError || !(error instanceof Error)
    log.fatal({ code, reason: coded ? errorMessage(error) : error.stack }, 'swarmd stops')
    process.exit(1)
  }
}

await main()

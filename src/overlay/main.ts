// swarmd-net: one program, several processes. `start` opens the sockets and becomes the holder; the holder starts `serve`, which
// does the work; `open` and `probe` live for a moment, in another network namespace.

import { chmod, mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { SystemClock } from '../lib/clock.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import { createLog, type Log } from '../lib/log.ts'
import { SystemRandom } from '../lib/random.ts'
import { VERSION } from '../lib/version.ts'
import { CONTROL_FILE } from './control-protocol.ts'
import { Holder, parentChannel } from './holder.ts'
import { CONTROL_SOCKET, LOCK_SOCKET, PLUGIN_SOCKET, STATE_LOCK_SOCKET } from './holder-protocol.ts'
import { candidates, driverName, lockPath, noFreeInstance, stateLockPath, take } from './instance.ts'
import { NET_HELP, type NetOptions, optionArguments, parseNetCommand } from './net-options.ts'
import { runNetServer } from './net-server.ts'
import type { ProbeTarget } from './probe/probe-plan.ts'
import { probe } from './probe/prober.ts'
import type { SocketSpec } from './raw-socket.ts'
import { removeDataPlane } from './remove.ts'
import { runOpener } from './socket-opener.ts'
import { inheritedSockets } from './systemd-sockets.ts'

const program = fileURLToPath(import.meta.url)

async function main(argv: readonly string[]): Promise<void> {
  const command = parseNetCommand(argv)
  switch (command.kind) {
    case 'help':
      process.stdout.write(NET_HELP)
      return
    case 'version':
      process.stdout.write(`swarmd-net version ${VERSION}\n`)
      return
    case 'open':
      await runOpener(JSON.parse(command.sockets) as SocketSpec[])
      return
    case 'probe': {
      const targets = JSON.parse(await text(process.stdin)) as ProbeTarget[]
      process.stdout.write(JSON.stringify(await probe(targets, new SystemClock())))
      return
    }
    case 'start':
      await start(command.options, createLog({ level: command.options.logLevel }))
      return
    case 'hold':
      await hold(command.options, command.instance)
      return
    case 'serve': {
      const { options, instance } = command
      const log = createLog({ level: options.logLevel }).child({ program: 'swarmd-net' })
      await runNetServer({ options, instance, program, clock: new SystemClock(), random: new SystemRandom(), log })
      return
    }
    case 'remove':
      await removeDataPlane(command.options, (line) => process.stdout.write(`${line}\n`))
      return
  }
}

function newHolder(options: NetOptions, instance: number, log: Log): Holder {
  const holder = new Holder({
    program,
    serverArguments: optionArguments(options, instance),
    clock: new SystemClock(),
    log: log.child({ program: 'swarmd-net', process: 'holder' }),
  })
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => holder.stop())
  process.on('SIGHUP', () => {}) // a terminal that closes is nothing to us
  return holder
}

async function start(options: NetOptions, log: Log): Promise<void> {
  await mkdir(options.stateDirectory, { recursive: true, mode: 0o700 })
  await mkdir(options.runDirectory, { recursive: true, mode: 0o711 })
  await mkdir(options.pluginDirectory, { recursive: true, mode: 0o711 })
  for (const instance of await candidates(options.stateDirectory)) {
    const holder = newHolder(options, instance, log)
    const failures = await holder.open('', [
      { kind: 'unix', name: STATE_LOCK_SOCKET, path: stateLockPath(options.stateDirectory) },
      { kind: 'unix', name: LOCK_SOCKET, path: lockPath(instance) },
    ])
    const [failure] = failures.filter(({ name, code }) => name === STATE_LOCK_SOCKET || code !== 'EADDRINUSE')
    if (failure?.code === 'EADDRINUSE') {
      throw new CodedError('ALREADY_RUNNING', `another swarmd-net runs on ${options.stateDirectory}`)
    }
    if (failure) throw new CodedError('SOCKET_FAILED', failure.message)
    if (failures.length > 0) {
      holder.letGo()
      continue
    }
    await take(instance, options.stateDirectory)
    await openListeners(holder, options, instance)
    holder.startServer()
    await holder.ended
    return
  }
  throw noFreeInstance()
}

/** systemd's sockets where it started us with some, else our own. */
async function openListeners(holder: Holder, options: NetOptions, instance: number): Promise<void> {
  const inherited = inheritedSockets(process.env, process.pid)
  const paths = [
    [CONTROL_SOCKET, join(options.runDirectory, CONTROL_FILE)],
    [PLUGIN_SOCKET, join(options.pluginDirectory, `${driverName(instance)}.sock`)],
  ] as const
  const specs: SocketSpec[] = []
  for (const [name, path] of paths) {
    const fd = inherited.get(name)
    if (fd === undefined) await rm(path, { force: true })
    specs.push(fd === undefined ? { kind: 'unix', name, path } : { kind: 'fd', name, fd })
  }
  const [failure] = await holder.open('', specs)
  if (failure) throw new CodedError('SOCKET_FAILED', `${failure.name} socket: ${failure.message}`)
  for (const [name, path] of paths) if (!inherited.has(name)) await chmod(path, 0o600)
}

/** Started by a server whose holder has died: everything comes from there. */
async function hold(options: NetOptions, instance: number): Promise<void> {
  const holder = newHolder(options, instance, createLog({ level: options.logLevel }))
  holder.adopt(parentChannel())
  await holder.ended
}

try {
  await main(process.argv.slice(2))
  process.exit(0)
} catch (error) {
  const coded = error instanceof CodedError || !(error instanceof Error)
  process.stderr.write(`swarmd-net: ${coded ? errorMessage(error) : error.stack}\n`)
  if (errorCode(error) === 'INVALID_FLAG') process.stderr.write('Run "swarmd-net --help" for its flags.\n')
  process.exit(errorCode(error) === 'INVALID_FLAG' ? 125 : 1)
}

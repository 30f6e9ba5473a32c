// The process of swarmd-net that does next to nothing, so that it has no reason to die: it holds the sockets, starts the server with
// them, and starts it again when it ends. A server whose holder has died starts a holder in its turn: either survives the other.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Clock, Timer } from '../lib/clock.ts'
import { errorMessage } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { type FromHolder, type FromServer, HOLDER_PROTOCOL, type OpenFailure } from './holder-protocol.ts'
import { type RawHandle, receivedHandle, type SocketSpec } from './raw-socket.ts'
import type { OpenerMessage } from './socket-opener.ts'

export interface HolderOptions {
  /** The bundled or compiled main file of swarmd-net. */
  readonly program: string
  /** Arguments of a server, after its command. */
  readonly serverArguments: readonly string[]
  readonly clock: Clock
  readonly log: Log
}

/** The other end of a channel: a child, or the parent of this process. */
export interface Channel {
  send(message: FromHolder, handle: RawHandle | undefined, sent: (error: Error | null) => void): void
  onMessage(listener: (message: FromServer, handle: unknown) => void): void
  onClose(listener: () => void): void
}

const OPEN_TIMEOUT_MS = 10_000
const PING_EVERY_MS = 3000
/** A server that says nothing for so long hangs: the engine's calls to it would hang as well. */
const SILENCE_MAX_MS = 20_000
const LONG_LIFE_MS = 10_000
const RESTART_PAUSE_MIN_MS = 50
const RESTART_PAUSE_MAX_MS = 5000

export class Holder {
  readonly #options: HolderOptions
  readonly #held = new Map<string, RawHandle>()
  #program: string
  #channel: Channel | undefined
  #serverPid: number | undefined
  #heardMs = 0
  #startedMs = 0
  #failures = 0
  /** A server is about to hand its sockets over, and not all have come: nobody could serve from those that have. */
  #receiving = false
  #ending = false
  #end: () => void = () => {}
  /** Resolves when the holder is to end. */
  readonly ended: Promise<void>

  constructor(options: HolderOptions) {
    this.#options = options
    this.#program = options.program
    this.ended = new Promise((resolve) => {
      this.#end = resolve
    })
    this.#watch()
  }

  hold(name: string, handle: RawHandle): void {
    const old = this.#held.get(name)
    this.#held.set(name, handle)
    if (old && old !== handle) old.close()
  }

  /** Answers what could not be opened; the rest is held. `netns` '': here. */
  async open(netns: string, sockets: readonly SocketSpec[]): Promise<readonly OpenFailure[]> {
    const { opened, failures } = await openInChild(this.#options, netns, sockets)
    for (const [name, handle] of opened) this.hold(name, handle)
    return failures
  }

  /** Gives up before anything was started. */
  letGo(): void {
    this.#ending = true
    for (const handle of this.#held.values()) handle.close()
    this.#held.clear()
    this.#end()
  }

  startServer(): void {
    if (this.#ending) return
    this.#startedMs = this.#options.clock.nowMs()
    const child = spawn(process.execPath, [this.#program, 'serve', ...this.#options.serverArguments], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true,
    })
    child.on('error', (error) => this.#options.log.error({ reason: error.message }, 'the server cannot be started'))
    child.on('exit', (code, signal) => {
      if (!this.#ending) this.#options.log.warn({ code, signal, pid: child.pid }, 'the server has ended')
    })
    this.#serverPid = child.pid
    this.#serve(childChannel(child))
  }

  /** Gives a server everything and watches it. */
  #serve(channel: Channel): void {
    this.#channel = channel
    this.#listen(channel)
    for (const [name, handle] of this.#held) this.#send(channel, { kind: 'socket', name }, handle)
    this.#send(channel, { kind: 'start', protocol: HOLDER_PROTOCOL, pid: process.pid })
  }

  /** A server that has lost its holder gives its sockets and is watched from then on. */
  adopt(channel: Channel): void {
    this.#startedMs = this.#options.clock.nowMs()
    this.#channel = channel
    this.#receiving = true
    this.#listen(channel)
  }

  /** Ends the server in peace, then this holder. */
  stop(): void {
    this.#ending = true
    if (this.#channel) this.#send(this.#channel, { kind: 'stop' })
    else this.#end()
  }

  #listen(channel: Channel): void {
    const { clock } = this.#options
    this.#heardMs = clock.nowMs()
    channel.onMessage((message, handle) => {
      this.#heardMs = clock.nowMs()
      if (this.#channel === channel) this.#onMessage(channel, message, handle)
    })
    channel.onClose(() => {
      if (this.#channel === channel) this.#onServerGone()
    })
  }

  #send(channel: Channel, message: FromHolder, handle?: RawHandle): void {
    channel.send(message, handle, (error) => {
      if (error) this.#options.log.debug({ reason: error.message }, 'the server does not listen')
    })
  }

  #onMessage(channel: Channel, message: FromServer, handle: unknown): void {
    switch (message.kind) {
      case 'hello':
        this.#serverPid = message.pid
        return
      case 'pong':
        return
      case 'open':
        void this.#openFor(channel, message.id, message.netns, message.sockets)
        return
      case 'drop':
        for (const name of message.names) {
          this.#held.get(name)?.close()
          this.#held.delete(name)
        }
        return
      case 'replace-server':
        this.#program = message.program
        this.#failures = 0
        this.#send(channel, { kind: 'stop' })
        return
      case 'release':
        this.#channel = undefined
        this.#ending = true
        this.#end()
        return
      case 'end':
        this.stop()
        return
      case 'hold': {
        const raw = receivedHandle(handle)
        if (raw) this.hold(message.name, raw)
        return
      }
      case 'held':
        this.#receiving = false
        this.#send(channel, { kind: 'start', protocol: HOLDER_PROTOCOL, pid: process.pid })
        return
    }
  }

  async #openFor(channel: Channel, id: number, netns: string, sockets: readonly SocketSpec[]): Promise<void> {
    const failures = await this.open(netns, sockets)
    for (const { name } of sockets) {
      const handle = this.#held.get(name)
      if (handle && !failures.some((failure) => failure.name === name))
        this.#send(channel, { kind: 'socket', name }, handle)
    }
    this.#send(channel, { kind: 'opened', id, failures })
  }

  #onServerGone(): void {
    const { clock, log } = this.#options
    this.#channel = undefined
    this.#serverPid = undefined
    if (this.#ending) {
      this.#end()
      return
    }
    if (this.#receiving) {
      // Both were killed: whoever starts another swarmd-net must find the locks free.
      log.warn({ held: this.#held.size }, 'the server has died before it had handed everything over')
      this.letGo()
      return
    }
    if (clock.nowMs() - this.#startedMs >= LONG_LIFE_MS) this.#failures = 0
    const pauseMs =
      this.#failures === 0 ? 0 : Math.min(RESTART_PAUSE_MIN_MS * 2 ** this.#failures, RESTART_PAUSE_MAX_MS)
    this.#failures++
    clock.setTimer(pauseMs, () => this.startServer())
  }

  #watch(): void {
    const { clock, log } = this.#options
    const look = (): void => {
      if (this.#ending) return
      const channel = this.#channel
      if (channel) {
        if (clock.nowMs() - this.#heardMs > SILENCE_MAX_MS && this.#serverPid !== undefined) {
          log.error({ pid: this.#serverPid, silentMs: SILENCE_MAX_MS }, 'the server hangs and is ended')
          this.#heardMs = clock.nowMs()
          killed(this.#serverPid)
        } else this.#send(channel, { kind: 'ping' })
      }
      this.#watchTimer = clock.setTimer(PING_EVERY_MS, look)
    }
    this.#watchTimer = clock.setTimer(PING_EVERY_MS, look)
    void this.ended.then(() => this.#watchTimer?.cancel())
  }

  #watchTimer: Timer | undefined
}

function killed(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {
    // it has just ended
  }
}

function childChannel(child: ChildProcess): Channel {
  return {
    send: (message, handle, sent) => {
      if (child.connected) child.send(message, handle, {}, sent)
    },
    onMessage: (listener) => void child.on('message', (message, handle) => listener(message as FromServer, handle)),
    onClose: (listener) => {
      // a program that cannot be started has no channel to lose
      let closed = false
      const close = (): void => {
        if (!closed) listener()
        closed = true
      }
      child.once('disconnect', close)
      child.once('exit', close)
    },
  }
}

/** This process's parent, which is a server that has lost its holder. */
export function parentChannel(): Channel {
  return {
    send: (message, handle, sent) => {
      if (process.connected) process.send?.(message, handle, {}, sent)
    },
    onMessage: (listener) => void process.on('message', (message, handle) => listener(message as FromServer, handle)),
    onClose: (listener) => {
      if (process.connected) process.once('disconnect', listener)
      else process.nextTick(listener) // it died while this process was starting: nobody will say so again
    },
  }
}

interface OpenedSockets {
  readonly opened: ReadonlyMap<string, RawHandle>
  readonly failures: readonly OpenFailure[]
}

/** Never throws: what goes wrong with the opener is a failure of its sockets. */
async function openInChild(
  options: HolderOptions,
  netns: string,
  sockets: readonly SocketSpec[],
): Promise<OpenedSockets> {
  const opened = new Map<string, RawHandle>()
  const failures: OpenFailure[] = []
  const answered = (): number => opened.size + failures.length
  // the opener's channel is its descriptor 3, what it inherits follows
  const inherited = sockets.filter((spec) => spec.kind === 'fd')
  const specs = sockets.map((spec) => (spec.kind === 'fd' ? { ...spec, fd: 4 + inherited.indexOf(spec) } : spec))
  const command = [process.execPath, options.program, 'open', JSON.stringify(specs)]
  const [file = '', ...rest] = netns ? ['nsenter', `--net=${netns}`, '--', ...command] : command
  const child = spawn(file, rest, {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...inherited.map((spec) => spec.fd)],
  })
  await new Promise<void>((resolve) => {
    const timer = options.clock.setTimer(OPEN_TIMEOUT_MS, () => child.kill('SIGKILL'))
    const done = (): void => {
      timer.cancel()
      resolve()
    }
    child.once('error', (error) => {
      failures.push({ name: '', code: '', message: errorMessage(error) })
      done()
    })
    child.once('exit', done)
    child.on('message', (data, handle) => {
      const message = data as OpenerMessage
      const raw = receivedHandle(handle)
      if (message.kind === 'opened' && raw) opened.set(message.name, raw)
      else if (message.kind === 'failed') failures.push(message)
      if (answered() === sockets.length) child.send({ kind: 'done' })
    })
  })
  for (const { name } of sockets) {
    if (opened.has(name) || failures.some((failure) => failure.name === name)) continue
    failures.push({ name, code: '', message: failures.find((one) => one.name === '')?.message ?? 'not opened' })
  }
  return { opened, failures: failures.filter((failure) => failure.name !== '') }
}

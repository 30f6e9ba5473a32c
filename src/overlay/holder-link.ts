// The server's end of its holder: the sockets that it serves from come from there, and what is opened later goes there too. A
// holder that dies is replaced by the server at once, and gets everything back.

import { spawn } from 'node:child_process'
import type { Clock } from '../lib/clock.ts'
import { CodedError } from '../lib/errors.ts'
import type { Log } from '../lib/log.ts'
import { type FromHolder, type FromServer, HOLDER_PROTOCOL, type OpenFailure } from './holder-protocol.ts'
import { type RawHandle, receivedHandle, type SocketSpec } from './raw-socket.ts'

/** The other process's channel: this one's parent, or a child that this one has started. */
interface Channel {
  readonly connected: boolean
  send(message: FromServer, handle?: RawHandle): void
}

export interface HolderLinkOptions {
  /** main file of this version */
  readonly program: string
  /** arguments of a holder, after its command; they are the server's as well */
  readonly arguments: readonly string[]
  /** Without a holder there is nothing to go on for: a service manager starts another. */
  readonly supervised: boolean
  /** The holder wants this process to end in peace. */
  readonly onStop: () => void
  readonly clock: Clock
  readonly log: Log
}

const START_TIMEOUT_MS = 10_000
const RESTART_PAUSE_MS = 1000

export class HolderLink {
  readonly #options: HolderLinkOptions
  readonly #sockets = new Map<string, RawHandle>()
  readonly #opening = new Map<number, (failures: readonly OpenFailure[]) => void>()
  #channel: Channel
  #nextId = 1
  #pid = 0
  #closed = false
  #started: () => void = () => {}
  #orphaned: () => void = () => {}
  /** False: the holder has died before everything was here. */
  readonly #hasStarted: Promise<boolean>

  constructor(options: HolderLinkOptions) {
    this.#options = options
    if (!process.send) throw new CodedError('NO_HOLDER', 'this command is for swarmd-net itself')
    this.#hasStarted = new Promise((resolve) => {
      this.#started = () => resolve(true)
      this.#orphaned = () => resolve(false)
    })
    this.#channel = {
      get connected() {
        return process.connected
      },
      send: (message, handle) => void process.send?.(message, handle, {}, () => {}),
    }
    const channel = this.#channel
    process.on('message', (message, handle) => this.#onMessage(channel, message as FromHolder, handle))
    process.on('disconnect', () => this.#onGone(channel))
    if (!process.connected) process.nextTick(() => this.#onGone(channel)) // it died while this process was starting
    this.#send({ kind: 'hello', pid: process.pid })
  }

  get pid(): number {
    return this.#pid
  }

  /** Everything that the holder has has arrived. @throws {CodedError} HOLDER_SILENT */
  async start(): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const timer = this.#options.clock.setTimer(START_TIMEOUT_MS, () =>
        reject(new CodedError('HOLDER_SILENT', 'the holder does not answer')),
      )
      void this.#hasStarted.then((whole) => {
        timer.cancel()
        if (whole) resolve()
        else reject(new CodedError('HOLDER_SILENT', 'the holder has died before it had handed everything over'))
      })
    })
  }

  socket(name: string): RawHandle | undefined {
    return this.#sockets.get(name)
  }

  /**
   * Opens sockets in a network namespace (a path), to be held from now on.
   * @throws {CodedError} SOCKET_FAILED
   */
  async open(netns: string, sockets: readonly SocketSpec[]): Promise<void> {
    const id = this.#nextId++
    const failures = await new Promise<readonly OpenFailure[]>((resolve) => {
      this.#opening.set(id, resolve)
      this.#send({ kind: 'open', id, netns, sockets })
    })
    const [failure] = failures
    if (failure) throw new CodedError('SOCKET_FAILED', `${failure.name}: ${failure.message}`, { retryable: true })
  }

  /** Names of sockets that are held. */
  get names(): readonly string[] {
    return [...this.#sockets.keys()]
  }

  /** They are held no more. Whoever serves from them closes them. */
  drop(names: readonly string[]): void {
    if (names.length === 0) return
    for (const name of names) {
      this.#sockets.get(name)?.close()
      this.#sockets.delete(name)
    }
    this.#send({ kind: 'drop', names })
  }

  /** The next server is of this program; the holder ends this one in peace. */
  replaceServer(program: string): void {
    this.#send({ kind: 'replace-server', program })
  }

  /** Ends the holder, and this server by it. */
  end(): void {
    this.#send({ kind: 'end' })
  }

  /** The holder's death is none of our business any more. */
  close(): void {
    this.#closed = true
  }

  #send(message: FromServer, handle?: RawHandle): void {
    if (this.#channel.connected) this.#channel.send(message, handle)
  }

  #onMessage(channel: Channel, message: FromHolder, handle: unknown): void {
    if (channel !== this.#channel) return
    switch (message.kind) {
      case 'socket': {
        const raw = receivedHandle(handle)
        if (raw) this.#sockets.set(message.name, raw)
        return
      }
      case 'start':
        this.#pid = message.pid
        this.#started()
        // one of another version can't serve us for long
        if (message.protocol !== HOLDER_PROTOCOL) this.#replaceHolder()
        return
      case 'opened':
        this.#opening.get(message.id)?.(message.failures)
        this.#opening.delete(message.id)
        return
      case 'ping':
        this.#send({ kind: 'pong' })
        return
      case 'stop':
        this.#options.onStop()
        return
    }
  }

  #replaceHolder(): void {
    this.#send({ kind: 'release' })
    this.#startHolder()
  }

  #onGone(channel: Channel): void {
    if (channel !== this.#channel || this.#closed) return
    if (this.#pid === 0) {
      this.#orphaned() // with part of the sockets there is nothing to go on with: another swarmd-net opens them all
      return
    }
    if (this.#options.supervised) {
      this.#options.onStop()
      return
    }
    this.#options.log.warn({ pid: this.#pid }, 'the holder has died and is replaced')
    this.#startHolder()
  }

  #startHolder(): void {
    const { program, log, clock } = this.#options
    const child = spawn(process.execPath, [program, 'hold', ...this.#options.arguments], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      detached: true,
    })
    const channel: Channel = {
      get connected() {
        return child.connected
      },
      send: (message, handle) => void child.send(message, handle, {}, () => {}),
    }
    this.#channel = channel
    child.on('error', (error) => {
      log.error({ reason: error.message }, 'no holder can be started')
      clock.setTimer(RESTART_PAUSE_MS, () => {
        if (this.#channel === channel && !this.#closed) this.#startHolder()
      })
    })
    child.on('message', (message, handle) => this.#onMessage(channel, message as FromHolder, handle))
    child.on('disconnect', () => this.#onGone(channel))
    child.unref()
    this.#send({ kind: 'hello', pid: process.pid })
    for (const [name, handle] of this.#sockets) this.#send({ kind: 'hold', name }, handle)
    this.#send({ kind: 'held' })
    // what was asked of the old one is asked again by whoever waits
    for (const answer of this.#opening.values()) answer([{ name: 'holder', code: '', message: 'the holder has died' }])
    this.#opening.clear()
  }
}

// A snapshot on its way to a slow follower: one connection, chunks in order, and a window of chunks that the receiver
// has not yet consumed, so that neither side ever holds more than a few.

import { type Clock, sleep } from '../lib/clock.ts'
import type { Connection } from '../lib/connection.ts'
import { CodedError, errorCode, errorMessage } from '../lib/errors.ts'
import type { SnapshotMessage } from './transport.ts'
import { decodeFrame, encodeFrame, encodeMessages, type Hello, malformed } from './transport-frames.ts'

/** Chunks sent and not yet consumed. */
const WINDOW_CHUNKS = 4

/**
 * Resolves when the peer has installed the snapshot; closes the connection in any case.
 * @param idleTimeoutMs how long the peer may take for a chunk, and for the installation after the last one.
 * @throws {CodedError} RAFT_SNAPSHOT_FAILED (retryable)
 */
export async function sendSnapshotStream(options: {
  readonly connection: Connection
  readonly hello: Hello
  readonly message: SnapshotMessage
  readonly chunks: AsyncIterable<Uint8Array>
  readonly clock: Clock
  readonly idleTimeoutMs: number
  readonly signal: AbortSignal
}): Promise<void> {
  const { connection, hello, message, clock, idleTimeoutMs, signal } = options
  let consumed = 0
  let outcome: { readonly error?: CodedError } | undefined
  let wake = () => {}
  const fail = (reason: string) => {
    outcome ??= { error: snapshotFailed(reason) }
    wake()
  }
  connection.listen({
    onMessage: (bytes) => {
      try {
        const frame = decodeFrame(bytes, hello.to, hello.from)
        if (frame.kind === 'consumed') consumed = frame.count
        else if (frame.kind === 'installed') outcome ??= {}
        else if (frame.kind === 'failed') fail(`the peer answered ${frame.code}`)
        else fail(`the peer sent an unexpected ${frame.kind}`)
      } catch (error) {
        fail(errorMessage(error))
      }
      wake()
    },
    onClose: () => fail('the connection closed'),
  })
  const until = async (condition: () => boolean) => {
    while (!condition()) {
      if (outcome?.error) throw outcome.error
      if (signal.aborted) throw snapshotFailed('this node stops sending')
      const changed = new AbortController()
      wake = () => changed.abort()
      const startedMs = clock.nowMs()
      signal.addEventListener('abort', wake, { once: true })
      await sleep(clock, idleTimeoutMs, changed.signal)
      signal.removeEventListener('abort', wake)
      if (!changed.signal.aborted && clock.nowMs() - startedMs >= idleTimeoutMs)
        throw snapshotFailed(`the peer took no chunk for ${idleTimeoutMs} ms`)
    }
  }
  try {
    connection.send(encodeFrame(hello))
    connection.send(encodeMessages([message]))
    let sent = 0
    for await (const chunk of options.chunks) {
      await until(() => outcome !== undefined || sent - consumed < WINDOW_CHUNKS)
      if (outcome) break
      connection.send(encodeFrame({ kind: 'chunk', chunk }))
      sent++
    }
    if (!outcome) connection.send(encodeFrame({ kind: 'end', count: sent }))
    await until(() => outcome !== undefined)
    if (outcome?.error) throw outcome.error
  } catch (error) {
    if (errorCode(error) === 'RAFT_SNAPSHOT_FAILED') throw error
    throw snapshotFailed(errorMessage(error), error)
  } finally {
    connection.close()
  }
}

/** The receiving end: what was sent after the hello is fed in, and the chunks come out as an iterable. */
export class SnapshotReceiver {
  readonly #connection: Connection
  readonly #install: (message: SnapshotMessage, chunks: AsyncIterable<Uint8Array>) => Promise<void>
  readonly #chunks: Uint8Array[] = []
  #received = 0
  #consumed = 0
  #started = false
  #ended = false
  #done = false
  #error: CodedError | undefined
  #wake: () => void = () => {}

  constructor(
    connection: Connection,
    install: (message: SnapshotMessage, chunks: AsyncIterable<Uint8Array>) => Promise<void>,
  ) {
    this.#connection = connection
    this.#install = install
  }

  /** @throws {CodedError} RAFT_MALFORMED */
  receive(frame: ReturnType<typeof decodeFrame>): void {
    if (this.#done) return
    switch (frame.kind) {
      case 'messages': {
        const message = frame.messages[0]
        if (this.#started || frame.messages.length !== 1 || message?.kind !== 'install-snapshot')
          throw malformed('a snapshot begins with its announcement')
        this.#started = true
        void this.#run(message)
        return
      }
      case 'chunk':
        if (!this.#started || this.#ended || this.#chunks.length >= 2 * WINDOW_CHUNKS)
          throw malformed('a chunk out of turn')
        this.#chunks.push(frame.chunk)
        this.#received++
        this.#wake()
        return
      case 'end':
        if (frame.count !== this.#received) throw malformed('the snapshot is not complete')
        this.#ended = true
        this.#wake()
        return
      case 'hello':
      case 'consumed':
      case 'installed':
      case 'failed':
      case 'ping':
      case 'pong':
        throw malformed(frame.kind)
    }
  }

  closed(): void {
    this.#error ??= snapshotFailed('the connection closed')
    this.#wake()
  }

  async #run(message: SnapshotMessage): Promise<void> {
    try {
      await this.#install(message, this.#iterate())
      this.#answer(encodeFrame({ kind: 'installed' }))
    } catch (error) {
      this.#answer(encodeFrame({ kind: 'failed', code: errorCode(error) ?? 'RAFT_SNAPSHOT_FAILED' }))
    }
  }

  #answer(frame: Uint8Array): void {
    this.#done = true
    if (this.#error) return
    try {
      this.#connection.send(frame)
      this.#connection.close()
    } catch {
      // The sender is gone; it starts again.
      this.#connection.destroy()
    }
  }

  async *#iterate(): AsyncIterable<Uint8Array> {
    for (;;) {
      if (this.#error) throw this.#error
      const chunk = this.#chunks.shift()
      if (chunk) {
        yield chunk
        this.#consumed++
        if (!this.#error) this.#connection.send(encodeFrame({ kind: 'consumed', count: this.#consumed }))
      } else if (this.#ended) return
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }
}

export function snapshotFailed(reason: string, cause?: unknown): CodedError {
  return new CodedError('RAFT_SNAPSHOT_FAILED', `the snapshot was not transferred: ${reason}`, {
    retryable: true,
    ...(cause === undefined ? {} : { cause }),
  })
}

// Two streams within this process, each the other's other end, for connections that carry files: what is written in pieces in one
// turn (a chunk of HTTP: its length, itself, its end) arrives as one, and a writer waits only for a reader that lags behind.

import { Duplex } from 'node:stream'

const AHEAD_BYTES = 256 * 1024

type Done = (error?: Error | null) => void

class End extends Duplex {
  #other: End | undefined
  #hasEnded = false
  /** The other end's write that waits until this one is read. */
  #waiting: Done | undefined

  constructor() {
    super({ allowHalfOpen: true, highWaterMark: AHEAD_BYTES })
  }

  join(other: End): void {
    this.#other = other
  }

  override _read(): void {
    const done = this.#waiting
    this.#waiting = undefined
    done?.()
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: Done): void {
    if (chunk.length === 0 || !this.#other) done()
    else this.#other.#take(chunk, done)
  }

  override _writev(chunks: readonly { readonly chunk: Buffer }[], done: Done): void {
    this._write(Buffer.concat(chunks.map(({ chunk }) => chunk)), 'utf8', done)
  }

  override _final(done: Done): void {
    this.#end()
    done()
  }

  override _destroy(error: Error | null, done: Done): void {
    // Whoever writes to an end that is gone waits for nobody.
    this._read()
    this.#end()
    done(error)
  }

  /** Once: the other end hears of it as the end of what it reads, as from a connection. */
  #end(): void {
    if (this.#hasEnded) return
    this.#hasEnded = true
    if (this.#other && !this.#other.destroyed) this.#other.push(null)
  }

  #take(chunk: Buffer, done: Done): void {
    if (this.destroyed || this.push(chunk)) done()
    else this.#waiting = done
  }
}

/** Either half of an end may end alone. An end that is destroyed takes what is still written to it. */
export function duplexPair(): readonly [Duplex, Duplex] {
  const [one, other] = [new End(), new End()]
  one.join(other)
  other.join(one)
  return [one, other]
}

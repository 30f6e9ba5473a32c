// A Redis client of one connection: as much of RESP2 (https://redis.io/docs/latest/develop/reference/protocol-spec/) as
// the voting app needs. It connects when it is first asked, and anew after a failure, so that a Redis that moves to
// another machine is found again.
import { connect } from 'node:net'

const ANSWER_MS = 2_000

export class Redis {
  #host
  #port
  #socket
  #waiting = []
  #received = Buffer.alloc(0)

  constructor({ host, port = 6379 }) {
    this.#host = host
    this.#port = port
  }

  /**
   * Sends a command and resolves with its answer: a string, a number, null, or an array of these.
   * Rejects when Redis answers with an error, is not reached, or takes longer than 2 s beyond `blockMs`.
   */
  async command(words, { blockMs = 0 } = {}) {
    const socket = this.#connected()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => socket.destroy(new Error(`redis at ${this.#host} does not answer`)),
        blockMs + ANSWER_MS,
      )
      this.#waiting.push({ resolve, reject, timer })
      const bulk = words.map((word) => `$${Buffer.byteLength(String(word))}\r\n${word}\r\n`)
      socket.write(`*${words.length}\r\n${bulk.join('')}`)
    })
  }

  close() {
    this.#socket?.destroy()
  }

  #connected() {
    if (this.#socket) return this.#socket
    const socket = connect({ host: this.#host, port: this.#port, noDelay: true, keepAlive: true })
    this.#socket = socket
    this.#received = Buffer.alloc(0)
    let cause = new Error(`redis at ${this.#host} closed the connection`)
    socket.on('data', (chunk) => this.#receive(chunk))
    socket.on('error', (error) => {
      cause = error
    })
    socket.on('close', () => {
      this.#socket = undefined
      for (const { reject, timer } of this.#waiting.splice(0)) {
        clearTimeout(timer)
        reject(cause)
      }
    })
    return socket
  }

  #receive(chunk) {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    for (;;) {
      const parsed = parse(this.#received, 0)
      if (!parsed) return
      this.#received = this.#received.subarray(parsed.end)
      const { resolve, reject, timer } = this.#waiting.shift()
      clearTimeout(timer)
      if (parsed.value instanceof Error) reject(parsed.value)
      else resolve(parsed.value)
    }
  }
}

/** The value that begins at `start`, and where it ends; undefined while some of it is missing. */
function parse(bytes, start) {
  const lineEnd = bytes.indexOf('\r\n', start)
  if (lineEnd < 0) return undefined
  const line = bytes.toString('utf8', start + 1, lineEnd)
  const next = lineEnd + 2
  switch (String.fromCharCode(bytes[start])) {
    case '+':
      return { value: line, end: next }
    case '-':
      return { value: new Error(`redis: ${line}`), end: next }
    case ':':
      return { value: Number(line), end: next }
    case '$': {
      if (line === '-1') return { value: null, end: next }
      const end = next + Number(line)
      return bytes.length < end + 2 ? undefined : { value: bytes.toString('utf8', next, end), end: end + 2 }
    }
    case '*': {
      if (line === '-1') return { value: null, end: next }
      const value = []
      let end = next
      for (let i = 0; i < Number(line); i++) {
        const item = parse(bytes, end)
        if (!item) return undefined
        value.push(item.value)
        end = item.end
      }
      return { value, end }
    }
    default:
      throw new Error(`no RESP: ${line}`)
  }
}

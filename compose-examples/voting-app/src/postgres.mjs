// A PostgreSQL client of one connection: as much of the protocol
// (https://www.postgresql.org/docs/current/protocol.html) as the voting app needs: a password by SCRAM-SHA-256, queries
// with parameters, notifications. It connects when it is first asked, and anew after a failure.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto'
import { connect } from 'node:net'

const ANSWER_MS = 2_000
const PROTOCOL_VERSION = 0x30000

export class Postgres {
  #options
  #connection

  /** `onNotify` is called for each notification of a channel that a query listens to. */
  constructor({ host, port = 5432, user = 'postgres', database = user, password, onNotify = () => {} }) {
    this.#options = { host, port, user, database, password, onNotify }
  }

  /** Resolves with the rows, each an array of strings and nulls. `values` stand for $1, $2 … */
  async query(text, values = []) {
    this.#connection ??= new Connection(this.#options, () => {
      this.#connection = undefined
    })
    return this.#connection.query(text, values)
  }

  /** True while a connection stands; what it listened to is gone with it. */
  get connected() {
    return this.#connection !== undefined
  }

  close() {
    this.#connection?.destroy()
  }
}

class Connection {
  #socket
  #options
  #waiting = []
  #received = Buffer.alloc(0)
  #scram
  #ready

  constructor(options, onClose) {
    this.#options = options
    const { host, port, user, database } = options
    const socket = connect({ host, port, noDelay: true, keepAlive: true })
    this.#socket = socket
    // the first to wait is the start itself
    this.#ready = this.#expect()
    this.#ready.catch(() => {}) // each query tells it
    const start = Buffer.concat([
      int32(PROTOCOL_VERSION),
      cString('user', user, 'database', database),
      Buffer.from([0]),
    ])
    socket.write(Buffer.concat([int32(start.length + 4), start]))
    let cause = new Error(`postgres at ${host} closed the connection`)
    socket.on('data', (chunk) => {
      try {
        this.#receive(chunk)
      } catch (error) {
        socket.destroy(error)
      }
    })
    socket.on('error', (error) => {
      cause = error
    })
    socket.on('close', () => {
      onClose()
      for (const { reject, timer } of this.#waiting.splice(0)) {
        clearTimeout(timer)
        reject(cause)
      }
    })
  }

  async query(text, values) {
    await this.#ready
    const answer = this.#expect()
    const parameters = values.map((value) => {
      if (value === null) return int32(-1)
      const bytes = Buffer.from(String(value))
      return Buffer.concat([int32(bytes.length), bytes])
    })
    this.#socket.write(
      Buffer.concat([
        message('P', cString('', text), int16(0)),
        message('B', cString('', ''), int16(0), int16(values.length), ...parameters, int16(0)),
        message('E', cString(''), int32(0)),
        message('S'),
      ]),
    )
    return answer
  }

  destroy() {
    this.#socket.destroy()
  }

  #expect() {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => this.#socket.destroy(new Error(`postgres at ${this.#options.host} does not answer`)),
        ANSWER_MS,
      )
      this.#waiting.push({ resolve, reject, timer, rows: [], error: undefined })
    })
  }

  #receive(chunk) {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    while (this.#received.length >= 5) {
      const end = 1 + this.#received.readInt32BE(1)
      if (this.#received.length < end) return
      const type = String.fromCharCode(this.#received[0])
      const body = this.#received.subarray(5, end)
      this.#received = this.#received.subarray(end)
      this.#handle(type, body)
    }
  }

  #handle(type, body) {
    const asked = this.#waiting[0]
    switch (type) {
      case 'R':
        return this.#authenticate(body)
      case 'D':
        return asked.rows.push(rowOf(body))
      case 'E':
        asked.error = errorOf(body)
        // before it is ready, an error ends the connection
        if (this.#scram !== 'done') this.#socket.destroy(asked.error)
        return
      case 'A': {
        const channelEnd = body.indexOf(0, 4)
        return this.#options.onNotify(body.toString('utf8', 4, channelEnd))
      }
      case 'Z':
        this.#scram = 'done'
        this.#waiting.shift()
        clearTimeout(asked.timer)
        if (asked.error) asked.reject(asked.error)
        else asked.resolve(asked.rows)
        return
      default: // parameters, notices, what a query's parts are answered with
    }
  }

  #authenticate(body) {
    const { password } = this.#options
    const data = body.subarray(4)
    switch (body.readInt32BE(0)) {
      case 0: // it is enough
        return
      case 10: {
        this.#scram = new Scram(password)
        const first = Buffer.from(this.#scram.first())
        this.#socket.write(message('p', cString('SCRAM-SHA-256'), int32(first.length), first))
        return
      }
      case 11:
        this.#socket.write(message('p', Buffer.from(this.#scram.final(data.toString()))))
        return
      case 12:
        return this.#scram.verify(data.toString())
      default:
        throw new Error('postgres wants a kind of password that is not known here (known: scram-sha-256, trust)')
    }
  }
}

/** The client's side of RFC 5802 with SHA-256. PostgreSQL knows the user's name already. */
class Scram {
  #password
  #nonce = randomBytes(18).toString('base64')
  #serverSignature

  constructor(password) {
    this.#password = password
  }

  first() {
    return `n,,n=,r=${this.#nonce}`
  }

  final(serverFirst) {
    const { r: nonce = '', s: salt = '', i: iterations } = fields(serverFirst)
    if (!nonce.startsWith(this.#nonce)) throw new Error('postgres answered for someone else')
    const salted = pbkdf2Sync(this.#password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256')
    const clientKey = hmac(salted, 'Client Key')
    const storedKey = createHash('sha256').update(clientKey).digest()
    const withoutProof = `c=biws,r=${nonce}`
    const signed = `n=,r=${this.#nonce},${serverFirst},${withoutProof}`
    const signature = hmac(storedKey, signed)
    this.#serverSignature = hmac(hmac(salted, 'Server Key'), signed)
    return `${withoutProof},p=${clientKey.map((byte, i) => byte ^ signature[i]).toString('base64')}`
  }

  verify(serverFinal) {
    const given = Buffer.from(fields(serverFinal).v ?? '', 'base64')
    if (given.length !== this.#serverSignature.length || !timingSafeEqual(given, this.#serverSignature)) {
      throw new Error('postgres does not know the password itself')
    }
  }
}

const hmac = (key, text) => createHmac('sha256', key).update(text).digest()
const fields = (text) => Object.fromEntries(text.split(',').map((field) => [field[0], field.slice(2)]))

function int16(value) {
  const bytes = Buffer.alloc(2)
  bytes.writeInt16BE(value)
  return bytes
}

function int32(value) {
  const bytes = Buffer.alloc(4)
  bytes.writeInt32BE(value)
  return bytes
}

const cString = (...texts) => Buffer.from(texts.map((text) => `${text}\0`).join(''))

function message(type, ...parts) {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}

function rowOf(body) {
  const row = []
  let at = 2
  for (let i = 0; i < body.readInt16BE(0); i++) {
    const length = body.readInt32BE(at)
    at += 4
    row.push(length < 0 ? null : body.toString('utf8', at, at + length))
    at += Math.max(0, length)
  }
  return row
}

function errorOf(body) {
  const parts = body.toString().split('\0')
  const find = (letter) => parts.find((part) => part[0] === letter)?.slice(1)
  return Object.assign(new Error(`postgres: ${find('M')}`), { code: find('C') })
}

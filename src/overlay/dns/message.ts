// DNS messages (RFC 1035, EDNS of RFC 6891) as far as a resolver of few record types needs them, by hand: it answers tens of
// thousands of questions a second on the thread that also drives the kernel. Whatever comes off the wire is bounded and never throws.

export const TYPE = { A: 1, SOA: 6, PTR: 12, AAAA: 28, OPT: 41, ANY: 255 } as const
export const RCODE = { NOERROR: 0, FORMERR: 1, SERVFAIL: 2, NXDOMAIN: 3, NOTIMP: 4, REFUSED: 5, BADVERS: 16 } as const
export const CLASS_IN = 1
export const CLASS_ANY = 255

export const HEADER_BYTES = 12
/** The longest message over UDP to whoever does not say that he takes more. */
export const PLAIN_UDP_BYTES = 512
/** What we send and take by UDP: passes every path unfragmented. */
export const UDP_BYTES_MAX = 1232
export const MESSAGE_BYTES_MAX = 0xffff

const FLAG = { QR: 0x8000, AA: 0x0400, TC: 0x0200, RD: 0x0100, RA: 0x0080, CD: 0x0010 } as const
const OPCODE_MASK = 0x7800
const NAME_BYTES_MAX = 255
const LABEL_BYTES_MAX = 63
/** Points to the question's name, which follows the header in every message. */
const QUESTION_POINTER = 0xc000 | HEADER_BYTES

export interface Edns {
  /** Largest message that the asker takes by UDP. */
  readonly udpBytes: number
  readonly version: number
  readonly dnssecOk: boolean
}

export interface Query {
  readonly id: number
  readonly flags: number
  /** Lower case, no dot at the end; a dot inside a label is written `\.`, a byte is a character. */
  readonly name: string
  readonly type: number
  readonly class: number
  /** The question as it was asked: the bytes from the header's end to here. */
  readonly questionEnd: number
  readonly edns: Edns | undefined
}

export type Parsed =
  | { readonly kind: 'query'; readonly query: Query }
  /** `questionEnd` is 0 where not even the question can be read. */
  | { readonly kind: 'fault'; readonly rcode: number; readonly questionEnd: number }
  | { readonly kind: 'response' }
  /** Too short for an answer of any kind. */
  | { readonly kind: 'noise' }

export function parseMessage(message: Buffer): Parsed {
  if (message.length < HEADER_BYTES) return { kind: 'noise' }
  const flags = message.readUInt16BE(2)
  if ((flags & FLAG.QR) !== 0) return { kind: 'response' }
  if ((flags & OPCODE_MASK) !== 0) return { kind: 'fault', rcode: RCODE.NOTIMP, questionEnd: 0 }
  const question = message.readUInt16BE(4) === 1 ? readQuestion(message) : undefined
  if (!question) return { kind: 'fault', rcode: RCODE.FORMERR, questionEnd: 0 }
  const edns = message.readUInt16BE(10) === 0 ? undefined : readEdns(message, question.end)
  if (edns === 'malformed' || message.readUInt16BE(6) !== 0) {
    return { kind: 'fault', rcode: RCODE.FORMERR, questionEnd: question.end }
  }
  const { name, type, class: class_, end } = question
  return {
    kind: 'query',
    query: { id: message.readUInt16BE(0), flags, name, type, class: class_, questionEnd: end, edns },
  }
}

export interface Question {
  readonly name: string
  readonly type: number
  readonly class: number
  readonly end: number
}

/** The question that stands first in `message`; undefined where there is none or its name is compressed or too long. */
export function readQuestion(message: Buffer): Question | undefined {
  let at = HEADER_BYTES
  let name = ''
  for (;;) {
    const length = message[at]
    if (length === undefined || length > LABEL_BYTES_MAX) return undefined
    at++
    if (length === 0) break
    const end = at + length
    if (end - HEADER_BYTES >= NAME_BYTES_MAX || end > message.length) return undefined
    const label = message.toString('latin1', at, end)
    const escaped = label.includes('.') ? label.replaceAll('.', '\\.') : label
    name = name === '' ? escaped : `${name}.${escaped}`
    at = end
  }
  if (at + 4 > message.length) return undefined
  return { name: lowerAscii(name), type: message.readUInt16BE(at), class: message.readUInt16BE(at + 2), end: at + 4 }
}

/** Names are equal but for the case of ASCII's letters; other bytes stand for themselves. */
export function lowerAscii(text: string): string {
  return /[A-Z]/.test(text) ? text.replace(/[A-Z]/g, (letter) => letter.toLowerCase()) : text
}

/** A name of ours (a service's, an alias) as questions spell it. */
export function nameKey(text: string): string {
  return lowerAscii(Buffer.from(text, 'utf8').toString('latin1'))
}

interface RecordPlace {
  /** of the type */
  readonly at: number
  readonly type: number
  readonly dataEnd: number
}

/** Behind a possibly compressed name; undefined where it leaves the message. */
function skipName(message: Buffer, from: number): number | undefined {
  let at = from
  for (;;) {
    const length = message[at]
    if (length === undefined) return undefined
    if (length === 0) return at + 1
    if (length >= 0xc0) return at + 2
    if (length > LABEL_BYTES_MAX) return undefined
    at += length + 1
  }
}

function recordAt(message: Buffer, from: number): RecordPlace | undefined {
  const at = skipName(message, from)
  if (at === undefined || at + 10 > message.length) return undefined
  const dataEnd = at + 10 + message.readUInt16BE(at + 8)
  return dataEnd > message.length ? undefined : { at, type: message.readUInt16BE(at), dataEnd }
}

function readEdns(message: Buffer, from: number): Edns | undefined | 'malformed' {
  const others = message.readUInt16BE(6) + message.readUInt16BE(8)
  const count = others + message.readUInt16BE(10)
  let edns: Edns | undefined
  let at = from
  for (let index = 0; index < count; index++) {
    const record = recordAt(message, at)
    if (!record) return 'malformed'
    if (record.type === TYPE.OPT) {
      if (edns || index < others || record.at !== at + 1) return 'malformed'
      edns = {
        udpBytes: message.readUInt16BE(record.at + 2),
        version: message[record.at + 5]!,
        dnssecOk: (message[record.at + 6]! & 0x80) !== 0,
      }
    }
    at = record.dataEnd
  }
  return edns
}

/** The largest answer that `query` takes over UDP. */
export function udpLimit({ edns }: Query): number {
  return edns ? Math.min(Math.max(edns.udpBytes, PLAIN_UDP_BYTES), UDP_BYTES_MAX) : PLAIN_UDP_BYTES
}

const OPT_BYTES = 11

function writeOpt(out: Buffer, at: number, edns: Edns, rcode: number): void {
  out[at] = 0
  out.writeUInt16BE(TYPE.OPT, at + 1)
  out.writeUInt16BE(UDP_BYTES_MAX, at + 3)
  out[at + 5] = rcode >> 4
  out[at + 6] = 0 // version
  out.writeUInt16BE(edns.dnssecOk ? 0x8000 : 0, at + 7)
  out.writeUInt16BE(0, at + 9)
}

/** A record whose owner is the question's name. */
export function encodeRecord(type: number, ttlSeconds: number, data: Uint8Array): Buffer {
  const record = Buffer.allocUnsafe(12 + data.length)
  record.writeUInt16BE(QUESTION_POINTER, 0)
  record.writeUInt16BE(type, 2)
  record.writeUInt16BE(CLASS_IN, 4)
  record.writeUInt32BE(ttlSeconds, 6)
  record.writeUInt16BE(data.length, 10)
  record.set(data, 12)
  return record
}

/** Undefined for what is no name (a label too long or empty). */
export function encodeName(name: string): Buffer | undefined {
  const labels = name.split('.').map((label) => Buffer.from(label, 'utf8'))
  if (labels.some(({ length }) => length === 0 || length > LABEL_BYTES_MAX)) return undefined
  const encoded = Buffer.concat([...labels.flatMap((label) => [Buffer.of(label.length), label]), Buffer.of(0)])
  return encoded.length > NAME_BYTES_MAX ? undefined : encoded
}

/** No name servers' names, all times 0: who keeps negative answers keeps these not at all (RFC 2308). */
const SOA_DATA = new Uint8Array(22)
const SOA = encodeRecord(TYPE.SOA, 0, SOA_DATA)

export interface Reply {
  readonly rcode: number
  /** Encoded by encodeRecord; sent from the one at `first` on, round about. */
  readonly records: readonly Buffer[]
  readonly first: number
  /** The name is ours, and this is the whole truth of it. */
  readonly authoritative: boolean
  /** False: what is not ours, nobody finds for this asker. */
  readonly recursion: boolean
}

/** @param limitBytes what does not fit is left out, with the flag that makes the asker come again over TCP */
export function encodeReply(message: Buffer, query: Query, reply: Reply, limitBytes: number): Buffer {
  const { records, authoritative, rcode } = reply
  const { questionEnd, edns } = query
  const room = limitBytes - questionEnd - (edns ? OPT_BYTES : 0)
  let count = 0
  let bytes = 0
  const total = records.length
  while (count < total) {
    const next = records[(reply.first + count) % total]!.length
    if (bytes + next > room) break
    bytes += next
    count++
  }
  const negative = authoritative && total === 0 && SOA.length <= room
  const out = Buffer.allocUnsafe(questionEnd + bytes + (negative ? SOA.length : 0) + (edns ? OPT_BYTES : 0))
  message.copy(out, 0, 0, questionEnd)
  const truncated = count < total
  writeFlags(out, query.flags, {
    flags: (authoritative ? FLAG.AA : 0) | (truncated ? FLAG.TC : 0) | (reply.recursion ? FLAG.RA : 0),
    rcode,
  })
  writeCounts(out, { questions: 1, answers: count, authorities: negative ? 1 : 0, additional: edns ? 1 : 0 })
  let at = questionEnd
  for (let index = 0; index < count; index++) {
    const record = records[(reply.first + index) % total]!
    record.copy(out, at)
    at += record.length
  }
  if (negative) {
    SOA.copy(out, at)
    // Of a name that does not exist the zone can only be its parent: the name without its first label.
    if (rcode === RCODE.NXDOMAIN) out[at + 1] = HEADER_BYTES + 1 + message[HEADER_BYTES]!
    at += SOA.length
  }
  if (edns) writeOpt(out, at, edns, rcode)
  return out
}

/** An answer to what could not be read: the header, and the question if that could be. */
export function encodeFault(message: Buffer, rcode: number, questionEnd: number): Buffer {
  const out = Buffer.alloc(Math.max(questionEnd, HEADER_BYTES))
  message.copy(out, 0, 0, out.length)
  // The opcode is kept, which writeFlags takes from the asker's flags.
  writeFlags(out, message.readUInt16BE(2), { flags: 0, rcode })
  writeCounts(out, { questions: questionEnd > 0 ? 1 : 0, answers: 0, authorities: 0, additional: 0 })
  return out
}

function writeFlags(out: Buffer, asked: number, { flags, rcode }: { flags: number; rcode: number }): void {
  out.writeUInt16BE(FLAG.QR | (asked & (OPCODE_MASK | FLAG.RD | FLAG.CD)) | flags | (rcode & 15), 2)
}

function writeCounts(
  out: Buffer,
  counts: { questions: number; answers: number; authorities: number; additional: number },
): void {
  out.writeUInt16BE(counts.questions, 4)
  out.writeUInt16BE(counts.answers, 6)
  out.writeUInt16BE(counts.authorities, 8)
  out.writeUInt16BE(counts.additional, 10)
}

/** `query` as it goes to a name server: without options but EDNS's flag. */
export function encodeForward(query: Query, message: Buffer, id: number): Buffer {
  const { questionEnd, edns } = query
  const out = Buffer.alloc(questionEnd + (edns ? OPT_BYTES : 0))
  message.copy(out, 0, 0, questionEnd)
  out.writeUInt16BE(id, 0)
  out.writeUInt16BE(query.flags & (FLAG.RD | FLAG.CD | 0x0020), 2)
  writeCounts(out, { questions: 1, answers: 0, authorities: 0, additional: edns ? 1 : 0 })
  if (edns) writeOpt(out, questionEnd, edns, 0)
  return out
}

export interface Response {
  readonly message: Buffer
  readonly rcode: number
  readonly truncated: boolean
  /** Where the records' times to live stand, EDNS's record left out. */
  readonly ttlOffsets: readonly number[]
  /** How long it may be kept; 0: not at all. */
  readonly ttlSeconds: number
}

/** What a name server answered to `query` under `id`; undefined if it is no answer to that, or malformed. */
export function readResponse(message: Buffer, query: Query, id: number): Response | undefined {
  if (message.length < HEADER_BYTES || message.readUInt16BE(0) !== id) return undefined
  const flags = message.readUInt16BE(2)
  if ((flags & FLAG.QR) === 0 || (flags & OPCODE_MASK) !== 0 || message.readUInt16BE(4) !== 1) return undefined
  const question = readQuestion(message)
  if (question?.name !== query.name || question.type !== query.type || question.class !== query.class) return undefined
  const rcode = flags & 15
  if ((flags & FLAG.TC) !== 0) return { message, rcode, truncated: true, ttlOffsets: [], ttlSeconds: 0 }
  const answers = message.readUInt16BE(6)
  const authorities = message.readUInt16BE(8)
  const count = answers + authorities + message.readUInt16BE(10)
  const ttlOffsets: number[] = []
  let ttlSeconds = Number.POSITIVE_INFINITY
  let negativeSeconds = 0
  let at = question.end
  for (let index = 0; index < count; index++) {
    const record = recordAt(message, at)
    if (!record) return undefined
    at = record.dataEnd
    if (record.type === TYPE.OPT) continue
    ttlOffsets.push(record.at + 4)
    const ttl = message.readUInt32BE(record.at + 4)
    ttlSeconds = Math.min(ttlSeconds, ttl)
    // RFC 2308: kept as long as the zone's SOA says in its last field.
    const isSoa = record.type === TYPE.SOA && index >= answers && index < answers + authorities
    if (isSoa && record.dataEnd - record.at >= 10 + 22) {
      negativeSeconds = Math.min(ttl, message.readUInt32BE(record.dataEnd - 4))
    }
  }
  const positive = rcode === RCODE.NOERROR && answers > 0
  const negative = (rcode === RCODE.NOERROR || rcode === RCODE.NXDOMAIN) && !positive
  const kept = positive ? ttlSeconds : negative ? Math.min(negativeSeconds, ttlSeconds) : 0
  return { message, rcode, truncated: false, ttlOffsets, ttlSeconds: Number.isFinite(kept) ? kept : 0 }
}

/** A name server's answer as `query` gets it: its number, its spelling, and the time that has passed taken off. */
export function encodeForwarded(
  response: Response,
  asked: { readonly query: Query; readonly message: Buffer },
  options: { readonly ageSeconds: number; readonly limitBytes: number },
): Buffer {
  const { query, message } = asked
  const fits = response.message.length <= options.limitBytes
  const out = fits ? Buffer.from(response.message) : truncate(response.message, query)
  message.copy(out, 0, 0, 2)
  message.copy(out, HEADER_BYTES, HEADER_BYTES, query.questionEnd)
  if (!fits || options.ageSeconds === 0) return out
  for (const offset of response.ttlOffsets) {
    out.writeUInt32BE(Math.max(0, out.readUInt32BE(offset) - options.ageSeconds), offset)
  }
  return out
}

function truncate(message: Buffer, query: Query): Buffer {
  const { questionEnd, edns } = query
  const out = Buffer.alloc(questionEnd + (edns ? OPT_BYTES : 0))
  message.copy(out, 0, 0, questionEnd)
  out.writeUInt16BE(message.readUInt16BE(2) | FLAG.TC, 2)
  writeCounts(out, { questions: 1, answers: 0, authorities: 0, additional: edns ? 1 : 0 })
  if (edns) writeOpt(out, questionEnd, edns, 0)
  return out
}

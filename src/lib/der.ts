// DER (ITU-T X.690) as far as certificates and requests need it: an encoder of a dozen types and a strict reader of
// tags and lengths. What is read comes from peers, so every length is checked.

import { CodedError } from './errors.ts'

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

export function tlv(tag: number, ...contents: readonly Uint8Array[]): Buffer {
  const content = Buffer.concat(contents)
  return Buffer.concat([Buffer.from([tag]), encodeLength(content.length), content])
}

function encodeLength(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length])
  const bytes: number[] = []
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return Buffer.from([0x80 | bytes.length, ...bytes])
}

export function sequence(...contents: readonly Uint8Array[]): Buffer {
  return tlv(TAG.sequence, ...contents)
}

export function set(...contents: readonly Uint8Array[]): Buffer {
  return tlv(TAG.set, ...contents)
}

/** A non-negative integer from its big-endian bytes. */
export function integer(bytes: Uint8Array): Buffer {
  let start = 0
  while (start < bytes.length - 1 && bytes[start] === 0) start++
  const minimal = bytes.subarray(start)
  // A leading 1 bit would read as a negative number.
  return tlv(TAG.integer, ...((minimal[0] ?? 0) >= 0x80 ? [Buffer.from([0])] : []), minimal)
}

export function oid(dotted: string): Buffer {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number)
  const bytes = [first * 40 + second]
  for (const arc of rest) {
    const groups = [arc % 128]
    for (let high = Math.floor(arc / 128); high > 0; high = Math.floor(high / 128)) groups.unshift(0x80 | (high % 128))
    bytes.push(...groups)
  }
  return tlv(TAG.oid, Buffer.from(bytes))
}

export function boolean(value: boolean): Buffer {
  return tlv(TAG.boolean, Buffer.from([value ? 0xff : 0]))
}

export function octetString(bytes: Uint8Array): Buffer {
  return tlv(TAG.octetString, bytes)
}

export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return tlv(TAG.bitString, Buffer.from([unusedBits]), bytes)
}

/** A name's text: PrintableString where its alphabet allows (as Go writes names), else UTF8String. */
export function nameString(text: string): Buffer {
  const printable = /^[A-Za-z0-9 '()+,./:=?-]*$/.test(text)
  return tlv(printable ? TAG.printableString : TAG.utf8String, Buffer.from(text, 'utf8'))
}

/** Seconds precision; UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5). */
export function time(wallMs: number): Buffer {
  const digits = new Date(wallMs).toISOString().replace(/\.\d+|[-:T]/g, '')
  return digits < '2050'
    ? tlv(TAG.utcTime, Buffer.from(digits.slice(2), 'latin1'))
    : tlv(TAG.generalizedTime, Buffer.from(digits, 'latin1'))
}

/** Context-specific constructed tag, `[n] EXPLICIT`. */
export function explicit(tagNumber: number, ...contents: readonly Uint8Array[]): Buffer {
  return tlv(0xa0 | tagNumber, ...contents)
}

/** Context-specific primitive tag, `[n] IMPLICIT`. */
export function implicit(tagNumber: number, bytes: Uint8Array): Buffer {
  return tlv(0x80 | tagNumber, bytes)
}

/** One element: `whole` with its header, `content` without. */
export interface DerElement {
  readonly tag: number
  readonly whole: Buffer
  readonly content: Buffer
}

/**
 * The elements that `bytes` consists of, one after the other, without a rest.
 * @throws {CodedError} DER_MALFORMED for lengths that are indefinite, not minimal, or longer than the input.
 */
export function readElements(bytes: Uint8Array): readonly DerElement[] {
  const input = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
  const elements: DerElement[] = []
  for (let at = 0; at < input.length; ) {
    const tag = input[at]!
    const first = input[at + 1]
    if (first === undefined || (tag & 0x1f) === 0x1f) throw malformed()
    let start = at + 2
    let length = first
    if (first >= 0x80) {
      const count = first & 0x7f
      if (count === 0 || count > 4 || start + count > input.length) throw malformed()
      length = input.readUIntBE(start, count)
      start += count
      if (length < 0x80 || length < 2 ** (8 * (count - 1))) throw malformed()
    }
    const end = start + length
    if (end > input.length) throw malformed()
    elements.push({ tag, whole: input.subarray(at, end), content: input.subarray(start, end) })
    at = end
  }
  return elements
}

/** The elements of the one constructed element with `tag` that `bytes` is. */
export function readConstructed(bytes: Uint8Array, tag: number = TAG.sequence): readonly DerElement[] {
  const [only, ...more] = readElements(bytes)
  if (only === undefined || only.tag !== tag || more.length > 0) throw malformed()
  return readElements(only.content)
}

/** The element at `at`, which must be there and bear `tag`. */
export function elementAt(elements: readonly DerElement[], at: number, tag: number): DerElement {
  const element = elements[at]
  if (element?.tag !== tag) throw malformed()
  return element
}

function malformed(): CodedError {
  return new CodedError('DER_MALFORMED', 'malformed DER')
}

/** The bytes of the first PEM block with `label`; undefined if there is none. */
export function readPem(pem: string, label: string): Buffer | undefined {
  const match = new RegExp(`-----BEGIN ${label}-----([A-Za-z0-9+/=\\s]+)-----END ${label}-----`).exec(pem)
  return match ? Buffer.from(match[1]!, 'base64') : undefined
}

/** As OpenSSL and Go write it: 64 columns and a final newline, so that equal certificates are equal texts. */
export function writePem(der: Uint8Array, label: string): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? []
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`
}

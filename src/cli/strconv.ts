// Numbers and booleans as Go's strconv and time packages read and write them: users know Docker's error texts, which
// are Go's, and specs carry what Go would have parsed.

/** A value that cannot be read; the message is Go's, ready to follow `invalid argument "x" for "--y" flag: `. */
export class ValueError extends Error {}

const MAX_UINT64 = 2n ** 64n - 1n

function parseInteger(text: string, func: string, base: 10 | 0): bigint {
  const syntax = () => new ValueError(`strconv.${func}: parsing ${quote(text)}: invalid syntax`)
  const match = /^([+-]?)(.*)$/s.exec(text)
  const sign = match?.[1] ?? ''
  let digits = match?.[2] ?? ''
  if (func === 'ParseUint' && sign !== '') throw syntax()
  if (base === 0) {
    const prefix = /^0[xX]/.test(digits) ? 16 : /^0[bB]/.test(digits) ? 2 : /^0[oO]/.test(digits) ? 8 : 0
    if (prefix !== 0) digits = `0${digits[1]!.toLowerCase()}${digits.slice(2)}`
    else if (/^0[0-7]+$/.test(digits)) digits = `0o${digits.slice(1)}`
    digits = digits.replace(/(?<=[0-9a-fA-Fxob])_(?=[0-9a-fA-F])/g, '')
  }
  if (!/^(0x[0-9a-fA-F]+|0b[01]+|0o[0-7]+|[0-9]+)$/.test(digits) || (base === 10 && !/^[0-9]+$/.test(digits))) {
    throw syntax()
  }
  if (base === 0 && /^0[0-9]/.test(digits)) throw syntax()
  const value = BigInt(digits)
  return sign === '-' ? -value : value
}

/** An unsigned integer of `bits` bits. Base 0 also takes 0x, 0o, 0b and a leading 0 for octal. */
export function parseUint(text: string, base: 10 | 0 = 10, bits: 16 | 32 | 64 = 64): number {
  const value = parseInteger(text, 'ParseUint', base)
  const max = bits === 64 ? MAX_UINT64 : 2n ** BigInt(bits) - 1n
  if (value > max) throw new ValueError(`strconv.ParseUint: parsing ${quote(text)}: value out of range`)
  return Number(value)
}

/** A signed 64-bit integer. */
export function parseInt64(text: string, base: 10 | 0 = 10): number {
  const value = parseInteger(text, 'ParseInt', base)
  if (value >= 2n ** 63n || value < -(2n ** 63n)) {
    throw new ValueError(`strconv.ParseInt: parsing ${quote(text)}: value out of range`)
  }
  return Number(value)
}

/** The octal digits of a file mode. */
export function parseOctal(text: string): number {
  if (!/^[0-7]+$/.test(text)) throw new ValueError(`strconv.ParseUint: parsing ${quote(text)}: invalid syntax`)
  return Number.parseInt(text, 8)
}

export function parseBool(text: string): boolean {
  if (/^(1|t|T|true|TRUE|True)$/.test(text)) return true
  if (/^(0|f|F|false|FALSE|False)$/.test(text)) return false
  throw new ValueError(`strconv.ParseBool: parsing ${quote(text)}: invalid syntax`)
}

export function parseFloat64(text: string): number {
  if (!/^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/.test(text)) {
    throw new ValueError(`strconv.ParseFloat: parsing ${quote(text)}: invalid syntax`)
  }
  return Number(text)
}

/** Go's %q of a string: double quotes with Go's escapes. */
export function quote(text: string): string {
  let out = '"'
  for (const char of text) {
    const code = char.codePointAt(0)!
    if (char === '"' || char === '\\') out += `\\${char}`
    else if (char === '\n') out += '\\n'
    else if (char === '\t') out += '\\t'
    else if (char === '\r') out += '\\r'
    else if (code < 0x20 || code === 0x7f) out += `\\x${code.toString(16).padStart(2, '0')}`
    else out += char
  }
  return `${out}"`
}

/** Cuts at the first `separator`; without one, all is `before` and `found` is false. */
export function cut(text: string, separator: string): { before: string; after: string; found: boolean } {
  const at = text.indexOf(separator)
  if (at < 0) return { before: text, after: '', found: false }
  return { before: text.slice(0, at), after: text.slice(at + separator.length), found: true }
}

/** Order of code units, the one order that does not depend on a locale. */
export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

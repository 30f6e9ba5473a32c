// Durations and sizes in Docker's notations: Go durations (1m30s) to nanoseconds and back, byte sizes (64m, 1.5GiB),
// CPU counts, and the rounded forms that tables show ("2 hours", "1.5GiB").

import { quote, ValueError } from './strconv.ts'

const NANOSECONDS: Readonly<Record<string, bigint>> = {
  ns: 1n,
  us: 1_000n,
  µs: 1_000n, // U+00B5, micro sign
  μs: 1_000n, // U+03BC, Greek mu
  ms: 1_000_000n,
  s: 1_000_000_000n,
  m: 60_000_000_000n,
  h: 3_600_000_000_000n,
}
const MAX_INT64 = 2n ** 63n - 1n

/** Nanoseconds of a Go duration ("1h30m", "-1.5s", "0"). @throws {ValueError} with Go's text. */
export function parseDuration(text: string): number {
  const invalid = () => new ValueError(`time: invalid duration ${quote(text)}`)
  const signed = /^[+-]/.test(text)
  let rest = signed ? text.slice(1) : text
  if (rest === '0') return 0
  if (rest === '') throw invalid()
  let total = 0n
  while (rest !== '') {
    const number = /^([0-9]*)(?:\.([0-9]*))?/.exec(rest)!
    const whole = number[1] ?? ''
    const fraction = number[2] ?? ''
    if (whole === '' && fraction === '') throw invalid()
    rest = rest.slice(number[0].length)
    const unit = /^[^0-9.]*/.exec(rest)![0]
    if (unit === '') throw new ValueError(`time: missing unit in duration ${quote(text)}`)
    const scale = NANOSECONDS[unit]
    if (scale === undefined) throw new ValueError(`time: unknown unit ${quote(unit)} in duration ${quote(text)}`)
    rest = rest.slice(unit.length)
    total += BigInt(whole || '0') * scale
    if (fraction !== '') total += (BigInt(fraction) * scale) / 10n ** BigInt(fraction.length)
    if (total > MAX_INT64) throw invalid()
  }
  return Number(text.startsWith('-') ? -total : total)
}

/** Go's text for a duration: "1m30s", "1.5s", "100ms", "0s". */
export function formatDuration(nanoseconds: number): string {
  const sign = nanoseconds < 0 ? '-' : ''
  const total = BigInt(Math.abs(nanoseconds))
  if (total === 0n) return '0s'
  const decimal = (value: bigint, scale: bigint) => {
    const fraction = (value % scale)
      .toString()
      .padStart(scale.toString().length - 1, '0')
      .replace(/0+$/, '')
    return `${value / scale}${fraction === '' || scale === 1n ? '' : `.${fraction}`}`
  }
  if (total < 1_000n) return `${sign}${total}ns`
  if (total < 1_000_000n) return `${sign}${decimal(total, 1_000n)}µs`
  if (total < 1_000_000_000n) return `${sign}${decimal(total, 1_000_000n)}ms`
  const minutes = total / 60_000_000_000n
  const seconds = `${decimal(total % 60_000_000_000n, 1_000_000_000n)}s`
  if (minutes === 0n) return sign + seconds
  if (minutes < 60n) return `${sign}${minutes}m${seconds}`
  return `${sign}${minutes / 60n}h${minutes % 60n}m${seconds}`
}

/** "Less than a second", "About a minute", "3 weeks": an age as Docker's tables show it. */
export function humanDuration(milliseconds: number): string {
  const seconds = Math.trunc(milliseconds / 1000)
  const minutes = Math.trunc(milliseconds / 60_000)
  const hours = Math.trunc(milliseconds / 3_600_000 + 0.5)
  if (seconds < 1) return 'Less than a second'
  if (seconds === 1) return '1 second'
  if (seconds < 60) return `${seconds} seconds`
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (hours < 24 * 14) return `${Math.trunc(hours / 24)} days`
  if (hours < 24 * 60) return `${Math.trunc(hours / 24 / 7)} weeks`
  if (hours < 24 * 365 * 2) return `${Math.trunc(hours / 24 / 30)} months`
  return `${Math.trunc(milliseconds / 3_600_000 / 24 / 365)} years`
}

const BINARY_UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB', 'ZiB', 'YiB']

/** "64MiB", "1.5GiB": at most four significant digits. */
export function bytesSize(bytes: number): string {
  let size = bytes
  let unit = 0
  while (size >= 1024 && unit < BINARY_UNITS.length - 1) {
    size /= 1024
    unit++
  }
  return `${significant(size, 4)}${BINARY_UNITS[unit]}`
}

/** Go's %.<digits>g. */
export function significant(value: number, digits: number): string {
  if (value === 0) return '0'
  const exponent = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(digits)))))
  if (exponent < -4 || exponent >= digits) {
    const [mantissa = '', power = ''] = value.toExponential(digits - 1).split('e')
    const trimmed = mantissa.includes('.') ? mantissa.replace(/\.?0+$/, '') : mantissa
    return `${trimmed}e${power[0]}${power.slice(1).padStart(2, '0')}`
  }
  const text = value.toPrecision(digits)
  return text.includes('.') ? text.replace(/\.?0+$/, '') : text
}

const BINARY_SUFFIXES: Readonly<Record<string, number>> = {
  k: 1024,
  m: 1024 ** 2,
  g: 1024 ** 3,
  t: 1024 ** 4,
  p: 1024 ** 5,
}

/** Bytes of "64m", "1.5g", "512KiB", "100". @throws {ValueError} with Docker's text. */
export function parseBytes(text: string): number {
  let end = -1
  for (let i = 0; i < text.length; i++) if (/[0-9. ]/.test(text[i]!)) end = i
  if (end === -1) throw new ValueError(`invalid size: '${text}'`)
  const number = text[end] === ' ' ? text.slice(0, end) : text.slice(0, end + 1)
  const suffix = text.slice(end + 1).toLowerCase()
  if (!/^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$/.test(number)) {
    throw new ValueError(`strconv.ParseFloat: parsing ${quote(number)}: invalid syntax`)
  }
  const size = Number(number)
  if (size < 0) throw new ValueError(`invalid size: '${text}'`)
  if (suffix === '' || suffix === 'b') return Math.trunc(size)
  if (!/^[kmgtp](b|ib)?$/.test(suffix)) {
    throw new ValueError(`invalid suffix: '${suffix.length > 3 ? text.slice(end + 1) : suffix}'`)
  }
  return Math.trunc(size * BINARY_SUFFIXES[suffix[0]!]!)
}

/** Nano-CPUs of "0.5", "2" or "1/3": nine decimals at most. @throws {ValueError} with Docker's text. */
export function parseCpus(text: string): number {
  const match = /^([+-]?)(?:([0-9]+)\/([0-9]+)|([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]+))?)$/.exec(text)
  const [, sign = '', over, under, whole = '', fraction = '', power = '0'] = match ?? []
  if (!match || (over === undefined && whole === '' && fraction === '') || under === '0') {
    throw new ValueError(`failed to parse ${text} as a rational number`)
  }
  let numerator = over === undefined ? BigInt(whole + fraction || '0') : BigInt(over)
  let denominator = under === undefined ? 10n ** BigInt(fraction.length) : BigInt(under)
  if (Number(power) > 0) numerator *= 10n ** BigInt(power)
  else denominator *= 10n ** BigInt(power.replace('-', ''))
  numerator *= 1_000_000_000n
  if (numerator % denominator !== 0n) throw new ValueError('value is too precise')
  const nano = Number(numerator / denominator)
  return sign === '-' ? -nano : nano
}

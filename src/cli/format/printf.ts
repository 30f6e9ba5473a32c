// Go's fmt.Sprintf for what templates pass it.

import { quote } from '../strconv.ts'
import { significant } from '../units.ts'
import { GoDuration, GoFloat, isList, printValue, typeName, type Value } from './value.ts'

/** Verbs v s d q t x X c e f g T and %%, with width, precision and the flags - + 0 and blank. */
export function formatPrintf(format: string, args: readonly Value[]): string {
  let next = 0
  const out = format.replace(
    /%([-+# 0]*)(\*|\d+)?(?:\.(\*|\d+)?)?([a-zA-Z%])/g,
    (whole, flags: string, widthText: string | undefined, precisionText: string | undefined, verb: string) => {
      if (verb === '%') return '%'
      const size = (text: string | undefined) =>
        text === '*' ? Number(args[next++]) : text === undefined ? undefined : Number(text)
      const width = size(widthText) ?? 0
      const precision = size(precisionText) ?? (whole.includes('.') ? 0 : undefined)
      if (next >= args.length) return `%!${verb}(MISSING)`
      const text = formatVerb(verb, args[next++], precision, flags)
      if (flags.includes('-')) return text.padEnd(width)
      if (!flags.includes('0') || !/[dfgexX]/.test(verb)) return text.padStart(width)
      return /^[+-]/.test(text) ? text[0] + text.slice(1).padStart(width - 1, '0') : text.padStart(width, '0')
    },
  )
  const extra = args.slice(next)
  if (extra.length === 0) return out
  return `${out}%!(EXTRA ${extra.map((arg) => `${typeName(arg)}=${printValue(arg)}`).join(', ')})`
}

function formatVerb(verb: string, value: Value, precision: number | undefined, flags: string): string {
  const wrong = () => `%!${verb}(${typeName(value)}=${printValue(value)})`
  const integer = typeof value === 'number' ? value : value instanceof GoDuration ? value.nanoseconds : undefined
  const float = value instanceof GoFloat ? value.value : undefined
  const signed = (text: string) => (flags.includes('+') && !text.startsWith('-') ? `+${text}` : text)
  switch (verb) {
    case 'v':
      return printValue(value)
    case 's':
      if (integer !== undefined && !(value instanceof GoDuration)) return wrong()
      if (typeof value === 'boolean' || float !== undefined) return wrong()
      return precision === undefined ? printValue(value) : [...printValue(value)].slice(0, precision).join('')
    case 'q':
      if (isList(value)) return `[${value.map((item) => formatVerb('q', item, undefined, '')).join(' ')}]`
      return typeof value === 'string' ? quote(value) : wrong()
    case 'd':
      return integer === undefined ? wrong() : signed(String(integer))
    case 't':
      return typeof value === 'boolean' ? String(value) : wrong()
    case 'x':
    case 'X': {
      const hex =
        integer !== undefined
          ? integer.toString(16)
          : typeof value === 'string'
            ? Buffer.from(value).toString('hex')
            : wrong()
      return verb === 'X' ? hex.toUpperCase() : hex
    }
    case 'c':
      return integer === undefined ? wrong() : String.fromCodePoint(integer)
    case 'f':
    case 'F':
      return float === undefined ? wrong() : signed(float.toFixed(precision ?? 6))
    case 'e':
      return float === undefined ? wrong() : float.toExponential(precision ?? 6).replace(/e([+-])(\d)$/, 'e$10$2')
    case 'g':
      if (float === undefined) return wrong()
      return precision === undefined ? printValue(value) : significant(float, precision || 1)
    case 'T':
      return typeName(value)
    default:
      return wrong()
  }
}

// What a person meant who wrote a name that nobody knows.

/** The one known name that a slip of one letter, two that changed places, or `-` for `_` makes of `name`. */
export function nearest(name: string, known: Iterable<string>): string | undefined {
  const plain = name.replaceAll('-', '_').toLowerCase()
  for (const one of known) if (one === plain || isOneSlipOff(plain, one)) return one
  return undefined
}

function isOneSlipOff(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1 || a === b || b.length < 4) return false
  let i = 0
  while (i < a.length && a[i] === b[i]) i++
  const [left, right] = [a.slice(i), b.slice(i)]
  const isSwapped = left[0] === right[1] && left[1] === right[0] && left.slice(2) === right.slice(2)
  return isSwapped || left.slice(1) === right || left === right.slice(1) || left.slice(1) === right.slice(1)
}

// The order of Docker's listings: "web2" before "web10".

const isDigit = (char: string | undefined) => char !== undefined && char >= '0' && char <= '9'

/** Compares digits as numbers and all else by code unit; fewer leading zeros come first; digits before the rest. */
export function compareNatural(a: string, b: string): number {
  let i = 0
  let j = 0
  while (i < a.length && j < b.length) {
    const digitA = isDigit(a[i])
    const digitB = isDigit(b[j])
    if (digitA !== digitB) return digitA ? -1 : 1
    if (!digitA) {
      if (a[i] !== b[j]) return a[i]! < b[j]! ? -1 : 1
      i++
      j++
      continue
    }
    const zerosA = skip(a, i, (char) => char === '0')
    const zerosB = skip(b, j, (char) => char === '0')
    const endA = skip(a, zerosA, isDigit)
    const endB = skip(b, zerosB, isDigit)
    if (endA - zerosA !== endB - zerosB) return endA - zerosA - (endB - zerosB)
    const numberA = a.slice(zerosA, endA)
    const numberB = b.slice(zerosB, endB)
    if (numberA !== numberB) return numberA < numberB ? -1 : 1
    if (zerosA !== zerosB) return zerosA - zerosB
    i = endA
    j = endB
  }
  return a.length - i - (b.length - j)
}

function skip(text: string, from: number, test: (char: string | undefined) => boolean): number {
  let at = from
  while (at < text.length && test(text[at])) at++
  return at
}

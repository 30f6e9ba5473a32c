// Splits a command as a POSIX shell would: quotes, backslashes, and comments, but no expansion. It is what Docker's
// library for it does; with a package's rules a command would get other words here than there.

import { ValueError } from '../strconv.ts'

/** @throws {ValueError} for a quote that does not end. */
export function parse(text: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let i = 0
  while (i < text.length) {
    const char = text[i]!
    if (/[ \t\r\n]/.test(char)) {
      if (word !== undefined) words.push(word)
      word = undefined
      i++
    } else if (char === '#' && word === undefined) {
      while (i < text.length && text[i] !== '\n') i++
    } else if (char === '\\') {
      if (i + 1 >= text.length) throw new ValueError('EOF found after escape character')
      word = (word ?? '') + text[i + 1]
      i += 2
    } else if (char === "'" || char === '"') {
      const end = quoted(text, i + 1, char)
      word = (word ?? '') + end.content
      i = end.next
    } else {
      word = (word ?? '') + char
      i++
    }
  }
  if (word !== undefined) words.push(word)
  return words
}

function quoted(text: string, from: number, quote: string): { readonly content: string; readonly next: number } {
  let content = ''
  for (let i = from; i < text.length; i++) {
    const char = text[i]!
    if (char === quote) return { content, next: i + 1 }
    if (char === '\\' && quote === '"') {
      i++
      if (i >= text.length) throw new ValueError('EOF found after escape character')
      content += text[i]
    } else content += char
  }
  throw new ValueError('EOF found when expecting closing quote')
}

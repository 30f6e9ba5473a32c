// One record of comma-separated values as Go's encoding/csv reads it: --mount, --publish, --secret and --network
// values may quote fields that contain commas.

import { ValueError } from './strconv.ts'

/** @throws {ValueError} with Go's text for a stray or unclosed quote; EOF for an empty value. */
export function parseCsvRecord(text: string): string[] {
  if (text === '') throw new ValueError('EOF')
  const fields: string[] = []
  let at = 0
  for (;;) {
    if (text[at] === '"') {
      const [field, next] = quoted(text, at)
      fields.push(field)
      at = next
    } else {
      const comma = text.indexOf(',', at)
      const field = comma < 0 ? text.slice(at) : text.slice(at, comma)
      const quoteAt = field.indexOf('"')
      if (quoteAt >= 0) {
        throw new ValueError(`parse error on line 1, column ${at + quoteAt + 1}: bare " in non-quoted-field`)
      }
      fields.push(field)
      at = comma < 0 ? text.length + 1 : comma + 1
    }
    if (at > text.length) return fields
  }
}

/** The field that opens at `at`, and where the next one begins (past the end after the last). */
function quoted(text: string, at: number): [string, number] {
  let field = ''
  for (let i = at + 1; i < text.length; i++) {
    if (text[i] !== '"') field += text[i]
    else if (text[i + 1] === '"') {
      field += '"'
      i++
    } else if (i + 1 === text.length) return [field, text.length + 1]
    else if (text[i + 1] === ',') return [field, i + 2]
    else throw new ValueError(`parse error on line 1, column ${i + 1}: extraneous or missing " in quoted-field`)
  }
  throw new ValueError(`parse error on line 1, column ${text.length + 1}: extraneous or missing " in quoted-field`)
}

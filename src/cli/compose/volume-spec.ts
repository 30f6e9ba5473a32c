// The short form of a volume: "data:/var/lib/data:ro", "./here:/there", "/anonymous".

import { ValueError } from '../strconv.ts'

const PROPAGATIONS = new Set(['rprivate', 'private', 'rshared', 'shared', 'rslave', 'slave'])

export interface ShortVolume {
  readonly type: string
  readonly source?: string
  readonly target: string
  readonly read_only?: boolean
  readonly bind?: { readonly propagation: string }
  readonly volume?: { readonly nocopy: boolean }
}

export interface ParsedVolume {
  readonly mount: ShortVolume
  /** Options that say nothing here: Docker leaves them out in silence. */
  readonly unknown: readonly string[]
}

/** @throws {ValueError} with Docker's text. */
export function parseVolumeSpec(spec: string): ParsedVolume {
  if (spec === '') throw new ValueError('invalid empty volume spec')
  if (spec.length < 3) return { mount: { type: 'volume', target: spec }, unknown: [] }
  const invalid = (reason: string) => new ValueError(`invalid spec: ${spec}: ${reason}`)
  const fields = split(spec)
  if (fields.includes('')) throw invalid('empty section between colons')
  if (fields.length > 3) throw invalid('too many colons')
  if (fields.length === 1) return { mount: { type: 'volume', target: spec }, unknown: [] }
  const [source = '', target = '', options] = fields
  const mount = { type: isPath(source) ? 'bind' : 'volume', source, target }
  const { found, unknown } = readOptions(options ?? '')
  return { mount: { ...mount, ...found }, unknown }
}

/** At colons, but not at that of a Windows drive (C:\data). */
function split(spec: string): readonly string[] {
  const fields: string[] = ['']
  for (const char of spec) {
    const current = fields.at(-1)!
    if (char === ':' && !/^\p{L}$/u.test(current)) fields.push('')
    else fields[fields.length - 1] = current + char
  }
  return fields
}

function readOptions(text: string): { readonly found: Partial<ShortVolume>; readonly unknown: readonly string[] } {
  let found: Partial<ShortVolume> = {}
  const unknown: string[] = []
  for (const option of text.split(',')) {
    if (option === 'ro') found = { ...found, read_only: true }
    else if (option === 'rw') found = { ...found, read_only: false }
    else if (option === 'nocopy') found = { ...found, volume: { nocopy: true } }
    else if (PROPAGATIONS.has(option)) found = { ...found, bind: { propagation: option } }
    else if (option !== '') unknown.push(option)
  }
  return { found, unknown }
}

function isPath(source: string): boolean {
  return /^[./~]/.test(source) || source.startsWith('\\\\') || /^\p{L}:/u.test(source)
}

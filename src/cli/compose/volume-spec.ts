// The short form of a volume: "data:/var/lib/data:ro", "./here:/there", "/anonymous".

import { ValueError } from '../strconv.ts'
import type { VolumeMountModel } from './model.ts'

const PROPAGATIONS = new Set(['rprivate', 'private', 'rshared', 'shared', 'rslave', 'slave'])

/** @throws {ValueError} with Docker's text. Options that nobody knows are left out, as Docker does. */
export function parseVolumeSpec(spec: string): Omit<VolumeMountModel, 'at'> {
  if (spec === '') throw new ValueError('invalid empty volume spec')
  if (spec.length < 3) return { type: 'volume', target: spec }
  const invalid = (reason: string) => new ValueError(`invalid spec: ${spec}: ${reason}`)
  const fields = split(spec)
  if (fields.includes('')) throw invalid('empty section between colons')
  if (fields.length > 3) throw invalid('too many colons')
  if (fields.length === 1) return { type: 'volume', target: spec }
  const [source = '', target = '', options] = fields
  const mount = { type: isPath(source) ? 'bind' : 'volume', source, target }
  return options === undefined ? mount : { ...mount, ...readOptions(options) }
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

function readOptions(text: string): Partial<VolumeMountModel> {
  let found: Partial<VolumeMountModel> = {}
  for (const option of text.split(',')) {
    if (option === 'ro') found = { ...found, read_only: true }
    else if (option === 'rw') found = { ...found, read_only: false }
    else if (option === 'nocopy') found = { ...found, volume: { nocopy: true } }
    else if (PROPAGATIONS.has(option)) found = { ...found, bind: { propagation: option } }
  }
  return found
}

function isPath(source: string): boolean {
  return /^[./~]/.test(source) || source.startsWith('\\\\') || /^\p{L}:/u.test(source)
}

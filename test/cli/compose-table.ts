// The tables of docs/compose.md, from the tables that the programs keep to.

import { CONTAINER_OPTIONS, containerLabel } from '../../src/api/container-labels.ts'
import { fileShape } from '../../src/cli/compose/compose-keys.ts'
import type { MapShape, Row, Shape, Use } from '../../src/cli/compose/shape.ts'

const WORDS: Readonly<Record<Use, string>> = {
  applied: 'applied',
  unsupported: 'left out, with Docker’s warning',
  deprecated: 'left out, with Docker’s warning',
  unheeded: 'left out, with a warning',
  forbidden: 'refused, as by Docker',
  refused: 'refused',
}

interface Mapping {
  readonly path: string
  readonly shape: MapShape
  /** The key above it that is left out with all that is in it. */
  readonly leftOut: string | undefined
}

/** Mappings of the table with the paths that lead to them. */
function mappings(shape: Shape, path: string, leftOut: string | undefined): readonly Mapping[] {
  switch (shape.kind) {
    case 'choice':
      return shape.of.flatMap((one) => mappings(one, path, leftOut))
    case 'list':
      return mappings(shape.items, `${path}[]`, leftOut)
    case 'dict':
      return mappings(shape.value, path === '' ? 'NAME' : `${path}.NAME`, leftOut)
    case 'map': {
      const inside = Object.entries(shape.keys).flatMap(([key, row]) =>
        mappings(row.shape, path === '' ? key : `${path}.${key}`, leftOut ?? (row.use === 'applied' ? undefined : key)),
      )
      return [{ path, shape, leftOut }, ...inside]
    }
    case 'any':
    case 'scalar':
      return []
  }
}

const isPlain = ({ use, reason }: Row) => use === 'applied' && reason === ''
const code = (text: string) => `\`${text}\``

/** A line for the keys of a mapping that are simply applied, and one for each of the others. */
export function keyTable(): string {
  const lines = mappings(fileShape, '', undefined).flatMap(({ path, shape, leftOut }) => {
    const rows = Object.entries(shape.keys)
    const plain = rows.filter(([, row]) => isPlain(row)).map(([key]) => key)
    const prefix = path === '' ? '' : `${path}.`
    return [
      ...(plain.length > 0
        ? [
            `| ${path === '' ? 'the file' : code(path)} | ${plain.map(code).join(' ')} | ${leftOut === undefined ? 'applied' : `left out, with ${code(leftOut)}`} |`,
          ]
        : []),
      ...rows
        .filter(([, row]) => !isPlain(row))
        .map(([key, { use, reason }]) => `| | ${code(`${prefix}${key}`)} | ${WORDS[use]}: ${reason} |`),
    ]
  })
  return ['| in | key | what becomes of it |', '|---|---|---|', ...lines].join('\n')
}

export function labelTable(): string {
  const lines = CONTAINER_OPTIONS.map(({ name, summary, accepted, hasPower }) => {
    const samples = [
      'true',
      'host',
      '/dev/a',
      'a.slice',
      'c 1:3 r',
      '[{"Driver":"cdi"}]',
      'seccomp=unconfined',
      'run.oci.x=y',
    ]
    const reach = samples.filter(hasPower)
    const needs = reach.length === samples.length ? 'yes' : reach.length > 0 ? 'for what reaches the host' : ''
    return `| ${code(containerLabel(name))} | ${summary} | ${accepted} | ${needs} |`
  })
  return ['| label | what | value | needs host-access |', '|---|---|---|---|', ...lines].join('\n')
}

export const TABLES: Readonly<Record<string, () => string>> = { keys: keyTable, labels: labelTable }

/** `text` with each table between its marks. */
export function withTables(text: string): string {
  return Object.entries(TABLES).reduce(
    (whole, [name, table]) =>
      whole.replace(
        new RegExp(`(<!-- ${name} -->\\n)[\\s\\S]*?(<!-- /${name} -->)`),
        (_, before: string, after: string) => `${before}\n${table()}\n\n${after}`,
      ),
    text,
  )
}

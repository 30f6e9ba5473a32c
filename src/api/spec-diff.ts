// Where two specs differ, field by field, for a person to read. What counts as equal is what counts for the tasks.

import { isBlank, isRecord, specsEqual } from './spec-equality.ts'

/** One of `Before` and `After` is absent where the field comes or goes. */
export interface FieldChange {
  /** `TaskTemplate.ContainerSpec.Image`, `Labels["a.b"]`, `EndpointSpec.Ports[80/tcp].PublishedPort` */
  readonly Path: string
  readonly Before?: unknown
  readonly After?: unknown
}

/** Lists whose order is their meaning. */
const ORDERED: ReadonlySet<string> = new Set(['Command', 'Args', 'Test', 'Preferences', 'Nameservers', 'Search'])

/** An id says no more than the name beside it, where that changes as well. */
const NAME_OF_ID: Readonly<Record<string, string>> = { SecretID: 'SecretName', ConfigID: 'ConfigName' }

/** The changes that lead from one to the other, in the order of the fields of `before`, then those that are new. */
export function diffSpecs(before: unknown, after: unknown): readonly FieldChange[] {
  return [...differences(before, after, '', '')]
}

function* differences(before: unknown, after: unknown, path: string, field: string): Generator<FieldChange> {
  if (isRecord(before) || isRecord(after)) {
    if ((before === undefined || isRecord(before)) && (after === undefined || isRecord(after))) {
      yield* ofRecords(before ?? {}, after ?? {}, path)
      return
    }
  }
  if (isEqual(before, after, field)) return
  if (Array.isArray(before ?? []) && Array.isArray(after ?? []) && !ORDERED.has(field)) {
    yield* ofLists((before ?? []) as readonly unknown[], (after ?? []) as readonly unknown[], path)
    return
  }
  yield change(path, isBlank(before, field) ? undefined : before, isBlank(after, field) ? undefined : after)
}

/** Whether a field is set may depend on its name. */
function isEqual(before: unknown, after: unknown, field: string): boolean {
  return specsEqual({ [field]: before }, { [field]: after })
}

function* ofRecords(
  before: Readonly<Record<string, unknown>>,
  after: Readonly<Record<string, unknown>>,
  path: string,
): Generator<FieldChange> {
  const fields = [...Object.keys(before), ...Object.keys(after).filter((field) => !(field in before))]
  for (const field of fields) {
    const name = NAME_OF_ID[field]
    if (name !== undefined && before[name] !== after[name]) continue
    const place = /^\w+$/.test(field) ? `${path === '' ? '' : `${path}.`}${field}` : `${path}[${JSON.stringify(field)}]`
    yield* differences(before[field], after[field], place, field)
  }
}

/** Elements are matched by what they are about; what has no name of its own comes or goes as a whole. */
function* ofLists(before: readonly unknown[], after: readonly unknown[], path: string): Generator<FieldChange> {
  const olds = byName(before)
  const news = byName(after)
  for (const [name, old] of olds) {
    if (!news.has(name)) yield change(`${path}[${name}]`, old, undefined)
    else yield* differences(old, news.get(name), `${path}[${name}]`, '')
  }
  for (const [name, added] of news) if (!olds.has(name)) yield change(`${path}[${name}]`, undefined, added)
}

function byName(list: readonly unknown[]): ReadonlyMap<string, unknown> {
  const named = new Map<string, unknown>()
  for (const item of list) {
    const [name, value] = nameAndValue(item)
    let unique = name
    for (let again = 2; named.has(unique); again++) unique = `${name} #${again}`
    named.set(unique, value)
  }
  return named
}

function nameAndValue(item: unknown): readonly [string, unknown] {
  if (typeof item === 'string') {
    // `NAME=value`: the environment
    const [, name, value] = /^([A-Za-z_]\w*)=([\s\S]*)$/.exec(item) ?? []
    return name === undefined ? [item, item] : [name, value]
  }
  if (!isRecord(item)) return [JSON.stringify(item), item]
  const file = isRecord(item.File) ? item.File.Name : undefined
  const port =
    item.TargetPort === undefined ? undefined : `${String(item.TargetPort)}/${String(item.Protocol ?? 'tcp')}`
  const name = file ?? port ?? item.Target ?? item.SecretName ?? item.ConfigName ?? item.Name ?? item.Subnet
  return [typeof name === 'string' ? name : JSON.stringify(item), item]
}

function change(Path: string, Before: unknown, After: unknown): FieldChange {
  return { Path, ...(Before === undefined ? {} : { Before }), ...(After === undefined ? {} : { After }) }
}

// What one source (a service, the peers, a local end point, …) puts into this node's nftables: chains and elements of sets and
// maps. The ruleset is the sum of all fragments over tables that never change; a change is the difference of two sums.

import { atOnce, type Steps } from '../../lib/slices.ts'
import { FABRIC_TABLE, type FabricConfig } from '../kernel/fabric-config.ts'
import { BALANCED_TABLE } from './balanced-replies.ts'
import type { Members } from './members.ts'

/** The inet table of the host's namespace; the inet table and the two of family bridge of the fabric's. */
export type TableName = 'host' | 'fabric' | 'bridge' | 'balanced'

export interface SetElement {
  readonly table: TableName
  /** Name of a set or map of that table. */
  readonly set: string
  /** As nft reads it: `"br4097" . 10.0.1.2`. */
  readonly key: string
  /** What a map gives for the key; empty in a set. */
  readonly value: string
}

export interface Fragment {
  /** Rules of chains of the fabric's inet table, by name. */
  readonly chains: ReadonlyMap<string, string>
  readonly elements: readonly SetElement[]
  /** Of those chains: to whom they balance. */
  readonly members: ReadonlyMap<string, Members>
}

export const EMPTY_FRAGMENT: Fragment = { chains: new Map(), elements: [], members: new Map() }

/** Of elements alone. */
export function elementFragment(elements: readonly SetElement[]): Fragment {
  return { ...EMPTY_FRAGMENT, elements }
}

/** nft scripts, one for each of the two namespaces; each is atomic. Empty: nothing to do there. */
export interface Scripts {
  readonly host: string
  readonly fabric: string
}

export const NO_SCRIPTS: Scripts = { host: '', fabric: '' }

export function tableRef(config: Pick<FabricConfig, 'hostTable'>, table: TableName): string {
  if (table === 'host') return `inet ${config.hostTable}`
  if (table === 'balanced') return `bridge ${BALANCED_TABLE}`
  return `${table === 'bridge' ? 'bridge' : 'inet'} ${FABRIC_TABLE}`
}

interface Sum {
  readonly chains: ReadonlyMap<string, string>
  readonly elements: ReadonlyMap<string, SetElement>
}

/** Where two say something of one element or chain the later one counts. */
export function sumOf(fragments: Iterable<Fragment>): Sum {
  return atOnce(sumSteps(fragments))
}

function* sumSteps(fragments: Iterable<Fragment>): Steps<Sum> {
  const chains = new Map<string, string>()
  const elements = new Map<string, SetElement>()
  for (const fragment of fragments) {
    for (const [name, body] of fragment.chains) chains.set(name, body)
    for (const element of fragment.elements) elements.set(`${element.table} ${element.set} ${element.key}`, element)
    yield
  }
  return { chains, elements }
}

/** Each in one command a set: nft's work is by command as well as by element. */
function* elementCommands(
  config: FabricConfig,
  verb: 'add' | 'delete',
  elements: Iterable<SetElement>,
): Steps<Record<'host' | 'fabric', string[]>> {
  const bySet = new Map<string, { readonly table: TableName; readonly set: string; readonly texts: string[] }>()
  for (const { table, set, key, value } of elements) {
    // The host's table may have the name of the fabric's.
    const ref = `${table} ${set}`
    const found = bySet.get(ref) ?? { table, set, texts: [] }
    found.texts.push(value === '' || verb === 'delete' ? key : `${key} : ${value}`)
    bySet.set(ref, found)
    yield
  }
  const commands: Record<'host' | 'fabric', string[]> = { host: [], fabric: [] }
  for (const { table, set, texts } of bySet.values()) {
    commands[table === 'host' ? 'host' : 'fabric'].push(
      `${verb} element ${tableRef(config, table)} ${set} { ${texts.join(', ')} }`,
    )
  }
  return commands
}

const script = (commands: readonly string[]) => (commands.length === 0 ? '' : `${commands.join('\n')}\n`)

/** Puts all of it into tables that have just been made. The fragments may not change before the last step. */
export function* additions(config: FabricConfig, fragments: Iterable<Fragment>): Steps<Scripts> {
  const sum = yield* sumSteps(fragments)
  const chains: string[] = []
  for (const [name, body] of sum.chains) {
    chains.push(`  chain ${name} {\n    ${body}\n  }`)
    yield
  }
  const block = chains.length === 0 ? [] : [`table ${tableRef(config, 'fabric')} {`, ...chains, '}']
  const elements = yield* elementCommands(config, 'add', sum.elements.values())
  return { host: script(elements.host), fabric: script([...block, ...elements.fabric]) }
}

/**
 * From `before` to `after`, whose work is that of what differs. What is to go is added first, so that a kernel where it is
 * missing refuses nothing; what is there with another value (a foreign hand) does refuse, and then the whole is loaded anew.
 */
export function difference(config: FabricConfig, before: Iterable<Fragment>, after: Iterable<Fragment>): Scripts {
  const old = sumOf(before)
  const now = sumOf(after)
  const same = (id: string, element: SetElement) => old.elements.get(id)?.value === element.value
  const gone = [...old.elements].filter(([id, element]) => now.elements.get(id)?.value !== element.value)
  const come = [...now.elements].filter(([id, element]) => !same(id, element))
  const ref = tableRef(config, 'fabric')
  const rewritten = [...now.chains].filter(([name, body]) => old.chains.get(name) !== body)
  const dropped = [...old.chains.keys()].filter((name) => !now.chains.has(name))
  const values = (pairs: readonly [string, SetElement][]) => pairs.map(([, element]) => element)
  const commands = (verb: 'add' | 'delete', pairs: readonly [string, SetElement][]) =>
    atOnce(elementCommands(config, verb, values(pairs)))
  const again = commands('add', gone)
  const removals = commands('delete', gone)
  const entries = commands('add', come)
  const emptied = (name: string) => [`add chain ${ref} ${name}`, `flush chain ${ref} ${name}`]
  return {
    host: script([...again.host, ...removals.host, ...entries.host]),
    fabric: script([
      // Elements that go may name a chain which a foreign hand took.
      ...dropped.flatMap(emptied),
      ...rewritten.flatMap(([name, body]) => [
        ...emptied(name),
        ...body.split('\n').map((rule) => `add rule ${ref} ${name} ${rule}`),
      ]),
      ...again.fabric,
      ...removals.fabric,
      ...entries.fabric,
      ...dropped.map((name) => `delete chain ${ref} ${name}`),
    ]),
  }
}

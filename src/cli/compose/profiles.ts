// Which services of a file are deployed: those without profiles, and those with an active one.

import { quote } from '../strconv.ts'
import { mapIn, texts } from './fields.ts'
import { field, type MapNode, type Node } from './node.ts'

export interface Selected {
  readonly root: MapNode
  /** Services that are left out, with their profiles. */
  readonly disabled: ReadonlyMap<string, readonly string[]>
}

/** `*` is every profile. */
export function selectServices(root: MapNode, active: readonly string[]): Selected {
  const services = mapIn(root, 'services')
  if (!services || active.includes('*')) return { root, disabled: new Map() }
  const disabled = new Map<string, readonly string[]>()
  for (const [name, { node }] of services.entries) {
    const profiles = profilesOf(node)
    if (profiles.length > 0 && !profiles.some((profile) => active.includes(profile))) disabled.set(name, profiles)
  }
  const kept = new Map([...services.entries].filter(([name]) => !disabled.has(name)))
  const section = root.entries.get('services')!
  const entries = new Map(root.entries).set('services', { ...section, node: { ...services, entries: kept } })
  return { root: { ...root, entries }, disabled }
}

function profilesOf(node: Node): readonly string[] {
  return node.kind === 'map' && field(node, 'profiles') ? (texts(node, 'profiles') ?? []) : []
}

/** How a service that is left out can be had. */
export const enabledBy = (profiles: readonly string[]): string => `--profile ${profiles.map(quote).join(' or ')}`

// Secrets and configs: create, change labels, remove when nobody uses them, list. They differ in limits only.

import type { Config, ObjectsByKind, Secret } from '../../api/objects.ts'
import type { ConfigSpec, SecretSpec } from '../../api/spec.ts'
import { validateConfigSpec, validateSecretSpec } from '../../api/validation/payload.ts'
import { invalidArgument, managerRefusal } from '../../api/validation/refusal.ts'
import { formatTime } from '../../lib/clock.ts'
import type { StoreView } from '../store/types.ts'
import { type ControlContext, outOfSequence, proposeCurrent, proposeRemoval } from './context.ts'
import { beginsWithOne, type Filters, hasLabels } from './filters.ts'
import { find } from './lookup.ts'

type Kind = 'secret' | 'config'

export function createSecret(context: ControlContext, spec: SecretSpec): Promise<string> {
  validateSecretSpec(spec)
  return create(context, 'secret', spec.Name ?? '', (base) => ({ kind: 'secret', ...base, spec }))
}

export function createConfig(context: ControlContext, spec: ConfigSpec): Promise<string> {
  validateConfigSpec(spec)
  return create(context, 'config', spec.Name ?? '', (base) => ({ kind: 'config', ...base, spec }))
}

async function create(
  context: ControlContext,
  kind: Kind,
  name: string,
  make: (base: Pick<Secret, 'id' | 'meta'>) => Secret | Config,
): Promise<string> {
  const now = formatTime(context.clock.wallMs())
  const object = make({ id: context.objectId, meta: { version: 0, createdAt: now, updatedAt: now } })
  await proposeCurrent(context, (view) => {
    if (view.get(kind, object.id) !== undefined) return undefined
    if (view.byName(kind, name) !== undefined) throw managerRefusal('ALREADY_EXISTS', `${kind} ${name} already exists`)
    return [{ kind: 'create', object }]
  })
  return object.id
}

/** Only labels may change: the name must be the same, and data the same or left out. */
export async function updateLabels(
  context: ControlContext,
  kind: Kind,
  input: string,
  version: number,
  spec: SecretSpec | ConfigSpec,
): Promise<void> {
  await proposeCurrent(context, (view) => {
    const current: Secret | Config = find(view, kind, input)
    if (spec.Name !== current.spec.Name || (spec.Data !== undefined && spec.Data !== current.spec.Data)) {
      throw invalidArgument('only updates to Labels are allowed')
    }
    if (version !== current.meta.version) throw outOfSequence()
    const object = { ...current, spec: { ...current.spec, Labels: spec.Labels ?? {} } }
    return [{ kind: 'update', object, expectedVersion: version }]
  })
}

export async function removeUnused(context: ControlContext, kind: Kind, input: string): Promise<void> {
  await proposeRemoval(context, kind, input, (object: Secret | Config, view) => {
    const users = kind === 'secret' ? view.servicesUsingSecret(object.id) : view.servicesUsingConfig(object.id)
    if (users.length > 0) {
      const names = users.map((service) => service.spec.Name).join(', ')
      const services = users.length === 1 ? 'service' : 'services'
      throw invalidArgument(`${kind} '${object.spec.Name}' is in use by the following ${services}: ${names}`)
    }
    return [{ kind: 'remove', objectKind: kind, id: object.id }]
  })
}

export const SECRET_FILTERS = ['names', 'name', 'id', 'label']
export const CONFIG_FILTERS = ['name', 'id', 'label']

/** Names, beginnings of names and of ids are alternatives here; labels narrow. */
export function listSecretsOrConfigs<K extends Kind>(
  view: StoreView,
  kind: K,
  filters: Filters,
): readonly ObjectsByKind[K][] {
  const byWho = ['names', 'name', 'id'].filter((name) => filters.has(name))
  return view.list(kind).filter((object) => {
    const name = object.spec.Name ?? ''
    const meant =
      byWho.length === 0 ||
      (filters.get('names') ?? []).includes(name) ||
      (filters.has('name') && beginsWithOne(filters, 'name', name)) ||
      (filters.has('id') && beginsWithOne(filters, 'id', object.id))
    return meant && hasLabels(filters, 'label', object.spec.Labels)
  })
}

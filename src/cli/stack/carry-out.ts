// Carries out a plan, in its order, and says each step in Docker's words.

import type { ConfigSpec, SecretSpec } from '../../api/spec.ts'
import { type PlannedAction, payloadLabels, type StackPlan, withKept, withReferences } from '../../api/stack-plan.ts'
import type { SecretJson, ServiceJson } from '../api-types.ts'
import { type ApiClient, DaemonError } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import { authOf, type DesiredStack } from './desired-stack.ts'
import { type Removal, removeEach, tryToRemove } from './remove.ts'
import { stackServices } from './stack-objects.ts'
import type { Deployed } from './wait.ts'

export interface CarryOutOptions {
  readonly sendAuth: boolean
  /** By service: shown once the service is there. */
  readonly warnings: ReadonlyMap<string, string>
}

/** Everything but the removals that come last. Answers the services, to be waited for. */
export async function carryOut(
  context: Context,
  client: ApiClient,
  desired: DesiredStack,
  plan: StackPlan,
  options: CarryOutOptions,
): Promise<readonly Deployed[]> {
  const surplus = plan.Actions.filter(({ Kind, Action }) => Kind === 'service' && Action === 'remove')
  await removeEach(context, client, surplus.map(removal).toSorted(byName))
  const deployed: Deployed[] = []
  const before = await stackServices(client, plan.Stack)
  let ids: Ids | undefined
  for (const action of plan.Actions) {
    if (action.Action === 'remove') continue
    if (action.Kind === 'network') await network(context, client, desired, action)
    else if (action.Kind === 'secret' || action.Kind === 'config')
      await payload(context, client, desired, action.Kind, action)
    else {
      ids ??= await idsOf(client, desired, plan)
      deployed.push(await service(context, client, desired, action, before, ids, options))
    }
  }
  return deployed
}

/** What nothing uses any more. What is still in use says so, and goes with the next deployment. */
export async function removeSurplus(context: Context, client: ApiClient, plan: StackPlan): Promise<void> {
  for (const action of plan.Actions) {
    if (action.Action !== 'remove' || action.Kind === 'service') continue
    const error = await tryToRemove(client, removal(action))
    if (error === undefined) context.stdout.write(`Removing ${action.Kind} ${action.Name}\n`)
    else context.stderr.write(`Keeping ${action.Kind} ${action.Name} for now: ${error}\n`)
  }
}

const removal = ({ Kind, ID = '', Name }: PlannedAction): Removal => ({ kind: Kind, id: ID, name: Name })
const byName = (a: Removal, b: Removal) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0)

async function network(
  context: Context,
  client: ApiClient,
  desired: DesiredStack,
  action: PlannedAction,
): Promise<void> {
  if (action.Action === 'keep') {
    const fields = action.Changes.map(({ Path }) => Path).join(', ')
    context.stderr.write(
      `network ${action.Name} differs from the Compose file (${fields}) and stays as it is: networks cannot be changed. Remove the stack and deploy it again, or give the network another name.\n`,
    )
  }
  if (action.Action !== 'create') return
  context.stdout.write(`Creating network ${action.Name}\n`)
  const body = desired.networks.own.find(({ Name }) => Name === action.Name)
  await naming(`failed to create network ${action.Name}`, () => client.json('POST', '/networks/create', { body }))
}

async function payload(
  context: Context,
  client: ApiClient,
  desired: DesiredStack,
  kind: 'secret' | 'config',
  action: PlannedAction,
): Promise<void> {
  if (action.Action === 'none') return
  const specs: readonly (SecretSpec | ConfigSpec)[] = kind === 'secret' ? desired.secrets : desired.configs
  const spec = specs.find(({ Name }) => Name === action.Base)
  if (!spec) throw new Error(`the plan has a ${kind} ${action.Name} that nobody wants`)
  const body = { ...spec, Name: action.Name, Labels: payloadLabels({ ...spec, Name: spec.Name ?? '' }, action.Name) }
  if (action.Action === 'update') {
    const query = { version: String(action.Version ?? 0) }
    const id = encodeURIComponent(action.ID ?? '')
    await naming(`failed to update ${kind} ${action.Name}`, async () => {
      await client.text('POST', `/${kind}s/${id}/update`, { query, body })
    }).catch((error: unknown) => {
      if (!(error instanceof CliError) || !error.message.includes('only updates to Labels are allowed')) throw error
      throw new CliError(
        `${error.message}\nThe content of a ${kind} cannot change. Give the new content a new name in the Compose file ("name: ${action.Name}_2" under the ${kind}, say), and deploy again: services that use it are updated.`,
      )
    })
    return
  }
  const instead = action.Action === 'rotate' ? ` (in place of ${action.From}, whose contents differ)` : ''
  context.stdout.write(`Creating ${kind} ${action.Name}${instead}\n`)
  await naming(`failed to create ${kind} ${action.Name}`, () => client.json('POST', `/${kind}s/create`, { body }))
}

interface Ids {
  /** Of the object that services are to refer to, by the name that the files use. */
  readonly secrets: ReadonlyMap<string, { readonly name: string; readonly id: string }>
  readonly configs: ReadonlyMap<string, { readonly name: string; readonly id: string }>
}

async function idsOf(client: ApiClient, desired: DesiredStack, plan: StackPlan): Promise<Ids> {
  const { services } = desired
  return {
    secrets: await idsOfKind(
      client,
      'secret',
      plan,
      services.flatMap(({ Secrets }) => Secrets.map(({ SecretName = '' }) => SecretName)),
    ),
    configs: await idsOfKind(
      client,
      'config',
      plan,
      services.flatMap(({ Configs }) => Configs.map(({ ConfigName = '' }) => ConfigName)),
    ),
  }
}

async function idsOfKind(
  client: ApiClient,
  kind: 'secret' | 'config',
  { Actions }: StackPlan,
  used: readonly string[],
): Promise<Ids['secrets']> {
  if (used.length === 0) return new Map()
  const names = new Map(used.map((name) => [name, name]))
  for (const action of Actions) {
    if (action.Kind === kind && action.Base !== undefined) names.set(action.Base, action.Name)
  }
  const filters = { name: Object.fromEntries([...names.values()].map((name) => [name, true as const])) }
  const found = await client.json<SecretJson[]>('GET', `/${kind}s`, { filters })
  const ids = new Map(found.map((object) => [object.Spec.Name ?? '', object.ID]))
  return new Map([...names].flatMap(([base, name]) => (ids.has(name) ? [[base, { name, id: ids.get(name)! }]] : [])))
}

async function service(
  context: Context,
  client: ApiClient,
  desired: DesiredStack,
  action: PlannedAction,
  before: readonly ServiceJson[],
  ids: Ids,
  { sendAuth, warnings }: CarryOutOptions,
): Promise<Deployed> {
  const wanted = desired.services.find(({ Spec }) => Spec.Name === action.Name)
  if (!wanted) throw new Error(`the plan has a service ${action.Name} that nobody wants`)
  const reference = (kind: 'secret' | 'config', name = '') => {
    const found = (kind === 'secret' ? ids.secrets : ids.configs).get(name)
    if (!found) throw new CliError(`service ${action.Name}: ${kind} not found: ${name}`)
    return found
  }
  const body = withReferences(withKept(wanted.Spec, action.Kept), {
    secrets: wanted.Secrets.map((each) => {
      const { name, id } = reference('secret', each.SecretName)
      return { ...each, SecretName: name, SecretID: id }
    }),
    configs: wanted.Configs.map((each) => {
      const { name, id } = reference('config', each.ConfigName)
      return { ...each, ConfigName: name, ConfigID: id }
    }),
  })
  const auth = sendAuth ? await authOf(context, wanted) : ''
  const headers = auth === '' ? {} : { 'X-Registry-Auth': auth }
  const warn = (texts: readonly string[] | null | undefined) => {
    const own = warnings.get(action.Name)
    for (const text of [...(texts ?? []), ...(own === undefined ? [] : [own])]) context.stderr.write(`${text}\n`)
  }
  if (action.Action === 'create') {
    context.stdout.write(`Creating service ${action.Name}\n`)
    const { ID, Warnings } = await naming(`failed to create service ${action.Name}`, () =>
      client.json<{ ID: string; Warnings?: string[] | null }>('POST', '/services/create', { body, headers }),
    )
    warn(Warnings)
    return { id: ID, name: action.Name, before: undefined }
  }
  const id = action.ID ?? ''
  context.stdout.write(`Updating service ${action.Name} (id: ${id})\n`)
  const answer = await naming(`failed to update service ${action.Name}`, () =>
    client.json<{ Warnings?: string[] | null } | null>('POST', `/services/${id}/update`, {
      query: { version: String(action.Version ?? 0) },
      body,
      headers,
    }),
  )
  warn(answer?.Warnings)
  return { id, name: action.Name, before: before.find(({ ID }) => ID === id)?.Spec }
}

async function naming<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof DaemonError) throw new CliError(`${what}: ${error.message}`)
    throw error
  }
}

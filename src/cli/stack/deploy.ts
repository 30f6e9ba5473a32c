// `stack deploy`: a compose file into the cluster, in Docker's order: services that are no longer there (--prune),
// networks, secrets, configs, services. Everything that can be wrong with the files is found before the first request
// that changes something.

import type { ConfigSpec, SecretSpec, ServiceSpec } from '../../api/spec.ts'
import type { InfoJson, NetworkJson, SecretJson, ServiceJson } from '../api-types.ts'
import { type ApiClient, DaemonError } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import { convertConfigs, convertNetworks, convertSecrets, type StackNetworks } from '../compose/convert-objects.ts'
import { convertService, type NamedSpec } from '../compose/convert-service.ts'
import type { ComposeModel } from '../compose/model.ts'
import { isUserDefinedNetwork, STACK_IMAGE_LABEL, scopedName } from '../compose/names.ts'
import { registryAuth } from '../docker-config.ts'
import type { Flags } from '../flags.ts'
import { PROGRAM } from '../help.ts'
import { resolveImage } from '../service/image-digest.ts'
import { quote } from '../strconv.ts'
import { checkImages, readCompose } from './compose-input.ts'
import { addReferences, findReferences } from './file-references.ts'
import { removeServices } from './remove.ts'
import { checkStackName, stackNetworks, stackServices } from './stack-objects.ts'
import { type Deployed, waitForServices } from './wait.ts'

export async function deployStack(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const stack = operands[0]!
  checkStackName(stack)
  const model = await readCompose(context, flags, { onWarning: (text) => void context.stderr.write(`${text}\n`) })
  checkImages(model)
  const resolve = flags.maybe('resolve-image') ?? 'always'
  if (resolve !== 'always' && resolve !== 'changed' && resolve !== 'never') {
    throw new CliError(`invalid option ${resolve} for flag --resolve-image`)
  }
  const plan = convert(stack, model)
  const client = await context.client()
  await requireManager(client)
  await requireExternalNetworks(client, plan.networks.external)

  if (flags.on('prune')) await prune(context, client, stack, model)
  await createNetworks(context, client, stack, plan.networks)
  for (const secret of plan.secrets) await createOrUpdate(context, client, 'secret', secret)
  for (const config of plan.configs) await createOrUpdate(context, client, 'config', config)
  const deployed = await deployServices(context, client, stack, plan.services, {
    resolve,
    sendAuth: flags.on('with-registry-auth'),
  })
  if (flags.on('detach')) return
  await waitForServices(context, stack, deployed, {
    quiet: flags.on('quiet'),
    timeoutMs: (flags.duration('timeout') ?? 0) / 1e6,
  })
}

interface Plan {
  readonly networks: StackNetworks
  readonly secrets: readonly SecretSpec[]
  readonly configs: readonly ConfigSpec[]
  readonly services: readonly NamedSpec[]
}

function convert(stack: string, model: ComposeModel): Plan {
  const names = [...model.services.keys()].sort()
  return {
    networks: convertNetworks(stack, model),
    secrets: convertSecrets(stack, model),
    configs: convertConfigs(stack, model),
    services: names.map((name) => convertService(stack, name, model.services.get(name)!, model)),
  }
}

async function requireManager(client: ApiClient): Promise<void> {
  const info = await client.json<InfoJson>('GET', '/info')
  if (info.Swarm?.ControlAvailable) return
  throw new CliError(
    `this node is not a swarm manager. Use "${PROGRAM} swarm init" or "${PROGRAM} swarm join" to connect this node to swarm and try again`,
  )
}

async function requireExternalNetworks(client: ApiClient, names: readonly string[]): Promise<void> {
  for (const name of names.filter(isUserDefinedNetwork)) {
    const network = await orUndefined(client.json<NetworkJson>('GET', `/networks/${encodeURIComponent(name)}`))
    if (!network) {
      throw new CliError(
        `network ${quote(name)} is declared as external, but could not be found. You need to create a swarm-scoped network before the stack is deployed`,
      )
    }
    if (network.Scope !== 'swarm') {
      throw new CliError(
        `network ${quote(name)} is declared as external, but it is not in the right scope: ${quote(network.Scope)} instead of "swarm"`,
      )
    }
  }
}

async function orUndefined<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer
  } catch (error) {
    if (error instanceof DaemonError && error.status === 404) return undefined
    throw error
  }
}

async function prune(context: Context, client: ApiClient, stack: string, model: ComposeModel): Promise<void> {
  const wanted = new Set([...model.services.keys()].map((name) => scopedName(stack, name)))
  const services = await stackServices(client, stack)
  await removeServices(
    context,
    client,
    services.filter(({ Spec }) => !wanted.has(Spec.Name ?? '')),
  )
}

async function createNetworks(
  context: Context,
  client: ApiClient,
  stack: string,
  { own }: StackNetworks,
): Promise<void> {
  const existing = new Set((await stackNetworks(client, stack)).map(({ Name }) => Name))
  for (const network of own) {
    if (existing.has(network.Name)) continue
    context.stdout.write(`Creating network ${network.Name}\n`)
    await naming(`failed to create network ${network.Name}`, () =>
      client.json('POST', '/networks/create', { body: network }),
    )
  }
}

async function createOrUpdate(
  context: Context,
  client: ApiClient,
  kind: 'secret' | 'config',
  spec: SecretSpec | ConfigSpec,
): Promise<void> {
  const name = spec.Name ?? ''
  const existing = await orUndefined(client.json<SecretJson>('GET', `/${kind}s/${encodeURIComponent(name)}`))
  if (!existing) {
    context.stdout.write(`Creating ${kind} ${name}\n`)
    await naming(`failed to create ${kind} ${name}`, () => client.json('POST', `/${kind}s/create`, { body: spec }))
    return
  }
  try {
    await naming(`failed to update ${kind} ${name}`, () =>
      client.text('POST', `/${kind}s/${encodeURIComponent(existing.ID)}/update`, {
        query: { version: String(existing.Version?.Index ?? 0) },
        body: spec,
      }),
    )
  } catch (error) {
    if (!(error instanceof CliError) || !error.message.includes('only updates to Labels are allowed')) throw error
    throw new CliError(
      `${error.message}\nThe content of a ${kind} cannot change. Give the new content a new name in the Compose file ("name: ${name}_2" under the ${kind}, say), and deploy again: services that use it are updated.`,
    )
  }
}

async function naming<T>(what: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (error instanceof DaemonError) throw new CliError(`${what}: ${error.message}`)
    throw error
  }
}

interface ServiceOptions {
  readonly resolve: 'always' | 'changed' | 'never'
  readonly sendAuth: boolean
}

async function deployServices(
  context: Context,
  client: ApiClient,
  stack: string,
  services: readonly NamedSpec[],
  options: ServiceOptions,
): Promise<readonly Deployed[]> {
  const references = await findReferences(client, services)
  const complete = services.map((service) => addReferences(service, references))
  const existing = new Map((await stackServices(client, stack)).map((service) => [service.Spec.Name ?? '', service]))
  const deployed: Deployed[] = []
  for (const spec of complete) deployed.push(await deployService(context, client, spec, existing, options))
  return deployed
}

async function deployService(
  context: Context,
  client: ApiClient,
  wanted: ServiceSpec,
  existing: ReadonlyMap<string, ServiceJson>,
  { resolve, sendAuth }: ServiceOptions,
): Promise<Deployed> {
  const name = wanted.Name ?? ''
  const image = wanted.TaskTemplate?.ContainerSpec?.Image ?? ''
  const auth = sendAuth ? await registryAuth(context.config, context.environment, image) : ''
  const headers = auth === '' ? {} : { 'X-Registry-Auth': auth }
  const warn = (text: string) => void context.stderr.write(`${text}\n`)
  const service = existing.get(name)
  if (!service) {
    context.stdout.write(`Creating service ${name}\n`)
    const { spec, warning } = await resolveImage(client, wanted, { query: resolve !== 'never', registryAuth: auth })
    const { ID, Warnings } = await naming(`failed to create service ${name}`, () =>
      client.json<{ ID: string; Warnings?: string[] | null }>('POST', '/services/create', { body: spec, headers }),
    )
    for (const text of [...(Warnings ?? []), ...(warning ? [warning] : [])]) warn(text)
    return { id: ID, name, before: undefined }
  }
  context.stdout.write(`Updating service ${name} (id: ${service.ID})\n`)
  const sameImage = image === (service.Spec.Labels?.[STACK_IMAGE_LABEL] ?? '')
  const query = resolve === 'always' || (resolve === 'changed' && !sameImage)
  const kept = keepingWhatIsNoneOfTheFile(wanted, service.Spec, sameImage && !query)
  const { spec, warning } = await resolveImage(client, kept, { query, registryAuth: auth })
  const answer = await naming(`failed to update service ${name}`, () =>
    client.json<{ Warnings?: string[] | null } | null>('POST', `/services/${service.ID}/update`, {
      query: { version: String(service.Version?.Index ?? 0) },
      body: spec,
      headers,
    }),
  )
  for (const text of [...(answer?.Warnings ?? []), ...(warning ? [warning] : [])]) warn(text)
  return { id: service.ID, name, before: service.Spec }
}

/** What the file does not say is no change: how often an update was forced, and the digest of an image that is the same. */
function keepingWhatIsNoneOfTheFile(wanted: ServiceSpec, current: ServiceSpec, isSameImage: boolean): ServiceSpec {
  const template = wanted.TaskTemplate ?? {}
  const forced = current.TaskTemplate?.ForceUpdate
  const image = current.TaskTemplate?.ContainerSpec?.Image
  return {
    ...wanted,
    TaskTemplate: {
      ...template,
      ...(forced ? { ForceUpdate: forced } : {}),
      ...(isSameImage && image ? { ContainerSpec: { ...template.ContainerSpec, Image: image } } : {}),
    },
  }
}

// What compose files want of the cluster, and the same without contents, as a plan is made from it.

import { createHash } from 'node:crypto'
import type { ConfigSpec, SecretSpec } from '../../api/spec.ts'
import { STACK_IMAGE_LABEL, type WantedPayload, type WantedService, type WantedStack } from '../../api/stack-plan.ts'
import type { ServiceJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError, type Context } from '../command.ts'
import { convertConfigs, convertNetworks, convertSecrets, type StackNetworks } from '../compose/convert-objects.ts'
import { convertService } from '../compose/convert-service.ts'
import type { ComposeModel } from '../compose/model.ts'
import { registryAuth } from '../docker-config.ts'
import { resolveImage } from '../service/image-digest.ts'
import { closest } from '../suggest.ts'

export interface DesiredStack {
  readonly networks: StackNetworks
  readonly secrets: readonly SecretSpec[]
  readonly configs: readonly ConfigSpec[]
  /** In the order of their names. */
  readonly services: readonly WantedService[]
  readonly prune: boolean
}

/**
 * @param only names of services of the files; none: all of them. With some, only what these need is wanted.
 * @throws {CliError | ComposeError}
 */
export function desiredStack(
  stack: string,
  compose: ComposeModel,
  { only, prune }: { readonly only: readonly string[]; readonly prune: boolean },
): DesiredStack {
  const model = only.length === 0 ? compose : { ...compose, services: chosen(compose, only) }
  const networks = convertNetworks(stack, model)
  const secrets = convertSecrets(stack, model)
  const configs = convertConfigs(stack, model)
  const services = [...model.services.keys()].sort().map((name): WantedService => {
    const { spec, secrets, configs } = convertService(stack, name, model.services.get(name)!, model)
    return { Spec: spec, Secrets: secrets, Configs: configs, KeepImage: true }
  })
  const secretNames = new Set(services.flatMap(({ Secrets }) => Secrets.map(({ SecretName }) => SecretName)))
  const configNames = new Set(services.flatMap(({ Configs }) => Configs.map(({ ConfigName }) => ConfigName)))
  const isWanted = (names: ReadonlySet<string | undefined>) => (each: SecretSpec) =>
    only.length === 0 || names.has(each.Name)
  return {
    networks,
    secrets: secrets.filter(isWanted(secretNames)),
    configs: configs.filter(isWanted(configNames)),
    services,
    prune,
  }
}

function chosen({ services }: ComposeModel, only: readonly string[]): ComposeModel['services'] {
  for (const name of only) {
    if (services.has(name)) continue
    const near = closest(name, [...services.keys()])[0]
    throw new CliError(`no such service in the Compose file: ${name}${near ? ` (did you mean ${near}?)` : ''}`)
  }
  return new Map([...services].filter(([name]) => only.includes(name)))
}

export interface ImageChoice {
  readonly resolve: 'always' | 'changed' | 'never'
  readonly sendAuth: boolean
}

/** The services with their images pinned as far as `resolve` says; warnings by the service's name. */
export async function pinImages(
  context: Context,
  client: ApiClient,
  desired: DesiredStack,
  current: readonly ServiceJson[],
  { resolve, sendAuth }: ImageChoice,
): Promise<{ readonly desired: DesiredStack; readonly warnings: ReadonlyMap<string, string> }> {
  const warnings = new Map<string, string>()
  const services: WantedService[] = []
  for (const service of desired.services) {
    const name = service.Spec.Name ?? ''
    const label = current.find(({ Spec }) => Spec.Name === name)?.Spec.Labels?.[STACK_IMAGE_LABEL]
    const isNew = label === undefined || label !== service.Spec.Labels?.[STACK_IMAGE_LABEL]
    const query = resolve === 'always' || (resolve === 'changed' && isNew)
    const registryAuth = sendAuth ? await authOf(context, service) : ''
    const { spec, warning } = await resolveImage(client, service.Spec, { query, registryAuth })
    if (warning !== undefined) warnings.set(name, warning)
    services.push({ ...service, Spec: spec, KeepImage: !query })
  }
  return { desired: { ...desired, services }, warnings }
}

/** X-Registry-Auth for the service's image; '' without one. */
export function authOf(context: Context, { Spec }: WantedService): Promise<string> {
  const image = Spec.Labels?.[STACK_IMAGE_LABEL] ?? Spec.TaskTemplate?.ContainerSpec?.Image ?? ''
  return registryAuth(context.config, context.environment, image)
}

/** A secret without its contents, by whose digest they are known again. */
export interface DigestedSecret extends Omit<SecretSpec, 'Data'> {
  /** SHA-256 in hexadecimal; '' where a driver has them */
  readonly Digest: string
}

export function digested({ Data, ...rest }: SecretSpec): DigestedSecret {
  return { ...rest, Digest: digestOf(Data) }
}

/** Contents stay here: only their digests are compared. */
export function wantedStack({
  networks,
  secrets,
  configs,
  services,
  prune,
}: Omit<DesiredStack, 'secrets'> & { readonly secrets: readonly (SecretSpec | DigestedSecret)[] }): WantedStack {
  return {
    Networks: networks.own,
    Secrets: secrets.map((spec) => ({ ...withoutContents(spec), ...(spec.Driver ? { Driver: spec.Driver } : {}) })),
    Configs: configs.map(withoutContents),
    Services: services,
    Prune: prune,
  }
}

function withoutContents(spec: SecretSpec | DigestedSecret): WantedPayload {
  const { Name = '', Labels = {}, Templating } = spec
  const Digest = 'Digest' in spec ? spec.Digest : digestOf(spec.Data)
  return { Name, Labels, Digest, ...(Templating ? { Templating } : {}) }
}

function digestOf(data: string | undefined): string {
  return data === undefined ? '' : createHash('sha256').update(Buffer.from(data, 'base64')).digest('hex')
}

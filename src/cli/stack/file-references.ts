// Ids of the secrets and configs that a stack's services refer to, found once the objects are in the cluster.

import type { ConfigReference, SecretReference, ServiceSpec } from '../../api/spec.ts'
import type { SecretJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError } from '../command.ts'
import type { NamedSpec } from '../compose/convert-service.ts'
import { compareText } from '../strconv.ts'

export interface References {
  /** Ids by name. */
  readonly secrets: ReadonlyMap<string, string>
  readonly configs: ReadonlyMap<string, string>
}

export async function findReferences(client: ApiClient, services: readonly NamedSpec[]): Promise<References> {
  return {
    secrets: await idsByName(
      client,
      '/secrets',
      services.flatMap(({ secrets }) => secrets.map(({ SecretName }) => SecretName ?? '')),
    ),
    configs: await idsByName(
      client,
      '/configs',
      services.flatMap(({ configs }) => configs.map(({ ConfigName }) => ConfigName ?? '')),
    ),
  }
}

async function idsByName(
  client: ApiClient,
  path: string,
  names: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (names.length === 0) return new Map()
  const filters = { name: Object.fromEntries(names.map((name) => [name, true as const])) }
  const found = await client.json<SecretJson[]>('GET', path, { filters })
  return new Map(found.map((object) => [object.Spec.Name ?? '', object.ID]))
}

/** The whole spec, its references in the order of names. @throws {CliError} for an external object that is not there. */
export function addReferences({ spec, secrets, configs }: NamedSpec, ids: References): ServiceSpec {
  const container = spec.TaskTemplate?.ContainerSpec ?? {}
  const idOf = (kind: 'secret' | 'config', known: ReadonlyMap<string, string>, name = ''): string => {
    const id = known.get(name)
    if (id === undefined) throw new CliError(`service ${spec.Name}: ${kind} not found: ${name}`)
    return id
  }
  const secretReferences = secrets
    .map(
      (reference): SecretReference => ({
        ...reference,
        SecretID: idOf('secret', ids.secrets, reference.SecretName),
      }),
    )
    .sort((a, b) => compareText(a.SecretName ?? '', b.SecretName ?? ''))
  const configReferences = configs
    .map(
      (reference): ConfigReference => ({
        ...reference,
        ConfigID: idOf('config', ids.configs, reference.ConfigName),
      }),
    )
    .sort((a, b) => compareText(a.ConfigName ?? '', b.ConfigName ?? ''))
  const credentials = configReferences.find(({ Runtime }) => Runtime)
  return {
    ...spec,
    TaskTemplate: {
      ...spec.TaskTemplate,
      ContainerSpec: {
        ...container,
        ...(secretReferences.length > 0 ? { Secrets: secretReferences } : {}),
        ...(configReferences.length > 0 ? { Configs: configReferences } : {}),
        ...(credentials?.ConfigID === undefined
          ? {}
          : { Privileges: { ...container.Privileges, CredentialSpec: { Config: credentials.ConfigID } } }),
      },
    },
  }
}

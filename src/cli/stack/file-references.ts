// Ids of the secrets and configs that a stack's services refer to, found once the objects are in the cluster.

import type { ConfigReference, SecretReference, ServiceSpec } from '../../api/spec.ts'
import type { SecretJson } from '../api-types.ts'
import type { ApiClient } from '../client.ts'
import { CliError } from '../command.ts'
import type { NamedSpec } from '../compose/convert-service.ts'

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

/** The whole spec. @throws {CliError} for an external object that is not there, or two files of one name. */
export function addReferences({ spec, secrets, configs }: NamedSpec, ids: References): ServiceSpec {
  const service = spec.Labels?.['com.docker.stack.namespace']
  const container = spec.TaskTemplate?.ContainerSpec ?? {}
  const short = (spec.Name ?? '').slice((service ?? '').length + 1)
  const explain = (text: string) => new CliError(`service ${short}: ${text}`)
  const secretReferences = unique(secrets, 'secret', (reference) => reference.SecretName, explain).map(
    (reference): SecretReference => {
      const id = ids.secrets.get(reference.SecretName ?? '')
      if (id === undefined) throw explain(`secret not found: ${reference.SecretName}`)
      return { ...reference, SecretID: id }
    },
  )
  const configReferences = unique(configs, 'config', (reference) => reference.ConfigName, explain).map(
    (reference): ConfigReference => {
      const id = ids.configs.get(reference.ConfigName ?? '')
      if (id === undefined) throw explain(`config not found: ${reference.ConfigName}`)
      return { ...reference, ConfigID: id }
    },
  )
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

/** In the order of names; one target may be given once. */
function unique<T extends { readonly File?: { readonly Name?: string } }>(
  references: readonly T[],
  kind: string,
  nameOf: (reference: T) => string | undefined,
  explain: (text: string) => CliError,
): readonly T[] {
  const targets = new Set<string>()
  for (const reference of references) {
    const target = reference.File?.Name
    if (target === undefined) continue
    if (targets.has(target)) throw explain(`duplicate ${kind} target for ${nameOf(reference)} not allowed`)
    targets.add(target)
  }
  const name = (reference: T) => nameOf(reference) ?? ''
  return [...references].sort((a, b) => (name(a) < name(b) ? -1 : name(a) > name(b) ? 1 : 0))
}

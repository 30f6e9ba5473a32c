// Networks, secrets and configs of a stack → what the API creates.

import type { ConfigSpec, Labels, SecretSpec } from '../../api/spec.ts'
import { ValueError } from '../strconv.ts'
import { readBytes } from './env-file.ts'
import { compact } from './fields.ts'
import type { ComposeModel, FileObjectModel, ServiceModel } from './model.ts'
import { scopedName, stackLabels } from './names.ts'
import { ComposeError } from './node.ts'

/** Body of POST /networks/create. */
export interface NetworkCreate {
  readonly Name: string
  readonly Driver: string
  readonly Options?: Labels
  readonly EnableIPv4?: boolean
  readonly EnableIPv6?: boolean
  readonly IPAM?: {
    readonly Driver?: string
    readonly Config?: readonly {
      readonly Subnet?: string
      readonly IPRange?: string
      readonly Gateway?: string
      readonly AuxiliaryAddresses?: Labels
    }[]
    readonly Options?: Labels
  }
  readonly Internal?: boolean
  readonly Attachable?: boolean
  readonly Labels: Labels
}

export interface StackNetworks {
  readonly own: readonly NetworkCreate[]
  /** Names of networks that must exist. */
  readonly external: readonly string[]
}

/** The networks that a service names; one that names none is on the stack's default one. */
export function networksOf({ networks, network_mode: mode }: ServiceModel): NonNullable<ServiceModel['networks']> {
  if (mode) return new Map()
  return networks?.size ? networks : new Map([['default', null]])
}

/** The networks that services are on; those that none uses are left out, as in Docker. */
export function convertNetworks(stack: string, compose: ComposeModel): StackNetworks {
  const used = new Set([...compose.services.values()].flatMap((service) => [...networksOf(service).keys()]))
  const own: NetworkCreate[] = []
  const external: string[] = []
  for (const key of [...used].sort()) {
    const network = compose.networks.get(key)
    if (network?.external) {
      external.push(network.name || key)
      continue
    }
    const ipam = network?.ipam
    own.push(
      compact<NetworkCreate>({
        Name: network?.name || scopedName(stack, key),
        Driver: network?.driver || 'overlay',
        Options: network?.driver_opts?.size ? Object.fromEntries(network.driver_opts) : undefined,
        IPAM:
          ipam && (ipam.driver || ipam.config?.length || ipam.options?.size)
            ? compact({
                Driver: ipam.driver,
                Config: ipam.config?.map((pool) =>
                  compact({
                    Subnet: pool.subnet,
                    IPRange: pool.ip_range,
                    Gateway: pool.gateway,
                    AuxiliaryAddresses: pool.aux_addresses && Object.fromEntries(pool.aux_addresses),
                  }),
                ),
                Options: ipam.options?.size ? Object.fromEntries(ipam.options) : undefined,
              })
            : undefined,
        EnableIPv4: network?.enable_ipv4,
        EnableIPv6: network?.enable_ipv6,
        Internal: network?.internal || undefined,
        Attachable: network?.attachable || undefined,
        Labels: stackLabels(stack, network?.labels),
      }),
    )
  }
  return { own, external }
}

/** @throws {ComposeError} for a file that cannot be read. */
export function convertSecrets(stack: string, compose: ComposeModel): readonly SecretSpec[] {
  return objects(stack, compose.secrets).map(({ base, object }) => ({
    ...base,
    ...(object.driver
      ? {
          Driver: compact({
            Name: object.driver,
            Options: object.driver_opts?.size ? Object.fromEntries(object.driver_opts) : undefined,
          }),
        }
      : { Data: contents(object) }),
    ...(object.template_driver ? { Templating: { Name: object.template_driver } } : {}),
  }))
}

/** @throws {ComposeError} for a file that cannot be read. */
export function convertConfigs(stack: string, compose: ComposeModel): readonly ConfigSpec[] {
  return objects(stack, compose.configs).map(({ base, object }) => ({
    ...base,
    Data: contents(object),
    ...(object.template_driver ? { Templating: { Name: object.template_driver } } : {}),
  }))
}

function objects(stack: string, all: ReadonlyMap<string, FileObjectModel>) {
  return [...all]
    .filter(([, object]) => !object.external)
    .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
    .map(([key, object]) => ({
      object,
      base: { Name: object.name || scopedName(stack, key), Labels: stackLabels(stack, object.labels) },
    }))
}

function contents(object: FileObjectModel): string {
  if (object.value !== undefined) return Buffer.from(object.value).toString('base64')
  try {
    return readBytes(object.file ?? '').toString('base64')
  } catch (error) {
    if (error instanceof ValueError) throw new ComposeError(object.at, error.message)
    throw error
  }
}

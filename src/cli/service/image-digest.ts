// Pins a service's image to the digest that its registry has now, so that every node runs the same one.

import { pullPolicy } from '../../api/service-labels.ts'
import type { Platform, ServiceSpec } from '../../api/spec.ts'
import type { ApiClient } from '../client.ts'
import { CliError } from '../command.ts'
import { withDefaultTag, withDigest } from '../reference.ts'

interface Distribution {
  readonly Descriptor?: { readonly digest?: string }
  readonly Platforms?: readonly { readonly architecture?: string; readonly os?: string }[] | null
}

export interface ImageOptions {
  /** Ask the registry, through the daemon. */
  readonly query: boolean
  /** X-Registry-Auth; '' without one. */
  readonly registryAuth: string
}

/**
 * The spec with its image tagged and, where the registry answers, pinned, its platforms filled in. A registry that
 * cannot be asked is a warning, as nodes may have the image or reach the registry themselves.
 */
export async function resolveImage(
  client: ApiClient,
  spec: ServiceSpec,
  options: ImageOptions,
): Promise<{ readonly spec: ServiceSpec; readonly warning: string | undefined }> {
  const container = spec.TaskTemplate?.ContainerSpec
  if (!container) return { spec, warning: undefined }
  const image = withDefaultTag(container.Image ?? '')
  const withImage = (name: string, platforms: readonly Platform[] = []): ServiceSpec => ({
    ...spec,
    TaskTemplate: {
      ...spec.TaskTemplate,
      ContainerSpec: { ...container, Image: name },
      ...(platforms.length > 0 ? { Placement: { ...spec.TaskTemplate?.Placement, Platforms: platforms } } : {}),
    },
  })
  // The registry's digest is not that of an image which is to be taken as it is on the node.
  if (!options.query || pullPolicy(spec.Labels) !== 'always') return { spec: withImage(image), warning: undefined }
  try {
    const distribution = await client.json<Distribution>('GET', `/distribution/${image}/json`, {
      headers: options.registryAuth === '' ? {} : { 'X-Registry-Auth': options.registryAuth },
    })
    const pinned = withDigest(image, distribution.Descriptor?.digest ?? '')
    return { spec: withImage(pinned, platforms(distribution)), warning: undefined }
  } catch (error) {
    if (!(error instanceof CliError)) throw error
    return { spec: withImage(image), warning: digestWarning(image) }
  }
}

/** Images say "arm" where nodes say "armv7l": no constraint then. */
function platforms(distribution: Distribution): Platform[] {
  return (distribution.Platforms ?? []).map(({ architecture = '', os = '' }) => ({
    ...(architecture.toLowerCase() === 'arm' || architecture === '' ? {} : { Architecture: architecture }),
    ...(os === '' ? {} : { OS: os }),
  }))
}

function digestWarning(image: string): string {
  return `image ${image} could not be accessed on a registry to record\nits digest. Each node will access ${image} independently,\npossibly leading to different nodes running different\nversions of the image.\n`
}

// What labels of a service ask of its containers beyond Swarm's specs (api/container-labels.ts), put into the body of
// POST /containers/create.

import { engineFields } from '../../api/container-labels.ts'
import type { Labels } from '../../api/spec.ts'

type Body = Readonly<Record<string, unknown>>

/** `body` with what the labels say; lists of both are joined. */
export function withContainerExtras(body: Body, labels: Labels | undefined): Body {
  const { config, host } = engineFields(labels)
  if (Object.keys(config).length === 0 && Object.keys(host).length === 0) return body
  const hostConfig = (body.HostConfig ?? {}) as Body
  const merged = Object.entries(host).map(([name, value]) => {
    const earlier = hostConfig[name]
    return [name, Array.isArray(earlier) && Array.isArray(value) ? [...earlier, ...value] : value] as const
  })
  return { ...body, ...config, HostConfig: { ...hostConfig, ...Object.fromEntries(merged) } }
}

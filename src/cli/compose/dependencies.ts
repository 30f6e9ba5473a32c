// `depends_on`: what a service names must be there, and may not come round to the service again.

import { compareText, quote } from '../strconv.ts'
import type { ServiceModel } from './model.ts'
import { nearest } from './near-miss.ts'
import { ComposeError } from './node.ts'
import { enabledBy } from './profiles.ts'

/**
 * @param disabled services that no active profile has, with their profiles
 * @throws {ComposeError}
 */
export function checkDependencies(
  services: ReadonlyMap<string, ServiceModel>,
  disabled: ReadonlyMap<string, readonly string[]>,
): void {
  for (const [name, { depends_on: needed }] of services) {
    for (const [other, { required, at }] of needed ?? []) {
      if (services.has(other) || !required) continue
      const profiles = disabled.get(other)
      if (profiles) {
        throw new ComposeError(
          at,
          `service ${quote(name)} depends on ${quote(other)}, which no active profile has: enable it with ${enabledBy(profiles)}`,
        )
      }
      const near = nearest(other, services.keys())
      throw new ComposeError(
        at,
        `service ${quote(name)} depends on undefined service ${quote(other)}${near === undefined ? '' : ` (did you mean ${near}?)`}`,
      )
    }
  }
  refuseCycles(services)
}

function refuseCycles(services: ReadonlyMap<string, ServiceModel>): void {
  const done = new Set<string>()
  for (const start of [...services.keys()].sort(compareText)) {
    const path: string[] = []
    const walk = [{ name: start, left: neededBy(services, start) }]
    path.push(start)
    while (walk.length > 0) {
      const { name, left } = walk.at(-1)!
      const next = left.pop()
      if (next === undefined) {
        done.add(name)
        walk.pop()
        path.pop()
        continue
      }
      const from = path.indexOf(next)
      if (from >= 0) {
        const cycle = [...path.slice(from), next]
        const at = services.get(name)!.depends_on!.get(next)!.at
        throw new ComposeError(at, `dependency cycle detected: ${cycle.join(' → ')}`)
      }
      if (done.has(next)) continue
      walk.push({ name: next, left: neededBy(services, next) })
      path.push(next)
    }
  }
}

const neededBy = (services: ReadonlyMap<string, ServiceModel>, name: string): string[] =>
  [...(services.get(name)?.depends_on?.keys() ?? [])]
    .filter((other) => services.has(other))
    .sort()
    .reverse()

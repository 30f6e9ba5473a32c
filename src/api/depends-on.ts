// What a service's first tasks wait for: a label, since Docker's specs have no field for it. Compose files say it as depends_on.

import type { Labels } from './spec.ts'

/** `NAME:started`, `NAME:healthy` or `NAME:completed`, separated by commas; NAME is another service's. */
export const DEPENDS_ON_LABEL = 'io.swarmctl.depends-on'

export type DependencyCondition = 'started' | 'healthy' | 'completed'

export interface Dependency {
  /** The whole name of a service. */
  readonly service: string
  readonly condition: DependencyCondition
}

const DEPENDENCY = /^([a-zA-Z0-9][a-zA-Z0-9_.-]*):(started|healthy|completed)$/
const MAX_DEPENDENCIES = 100

function parse(value: string): readonly Dependency[] | undefined {
  const found = value.split(',').map((part): Dependency | undefined => {
    const match = DEPENDENCY.exec(part.trim())
    return match ? { service: match[1]!, condition: match[2] as DependencyCondition } : undefined
  })
  if (found.length > MAX_DEPENDENCIES) return undefined
  return found.every((one) => one !== undefined) ? found : undefined
}

/** None where the label is absent or can't be understood. */
export function dependenciesOf(labels: Labels | undefined): readonly Dependency[] {
  const value = labels?.[DEPENDS_ON_LABEL]
  return value === undefined ? [] : (parse(value) ?? [])
}

export function dependsOnText(dependencies: readonly Dependency[]): string {
  return dependencies.map(({ service, condition }) => `${service}:${condition}`).join(',')
}

/** What is wrong with the value; undefined: nothing. */
export function dependsOnProblem(value: string): string | undefined {
  if (parse(value)) return undefined
  return `invalid value ${JSON.stringify(value)}: must be NAME:started, NAME:healthy or NAME:completed, separated by commas, ${MAX_DEPENDENCIES} at most`
}

// A plan kept for later: what was wanted, and what it was decided on. Of secrets it has digests only; environments of services may be
// nobody's business either, so only its owner may read it.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import type { SecretSpec } from '../../api/spec.ts'
import type { BaseObject, PlannedAction, StackPlan } from '../../api/stack-plan.ts'
import { errorMessage } from '../../lib/errors.ts'
import { CliError } from '../command.ts'
import { PROGRAM } from '../help.ts'
import { type DesiredStack, type DigestedSecret, digested } from './desired-stack.ts'

/** Files of format 1 had the contents of secrets. */
const FORMAT = 2

export interface KeptPlan {
  readonly desired: Omit<DesiredStack, 'secrets'> & { readonly secrets: readonly DigestedSecret[] }
  readonly plan: StackPlan
}

export function writePlan(
  path: string,
  { desired, plan }: { readonly desired: DesiredStack; readonly plan: StackPlan },
): void {
  const kept = { ...desired, secrets: desired.secrets.map(digested) }
  try {
    writeFileSync(path, `${JSON.stringify({ Format: FORMAT, Desired: kept, Plan: plan }, undefined, 1)}\n`, {
      mode: 0o600,
    })
    chmodSync(path, 0o600)
  } catch (error) {
    throw new CliError(`cannot write the plan: ${errorMessage(error)}`)
  }
}

/** @throws {CliError} */
export function readPlan(path: string): KeptPlan {
  let parsed: { Format?: number; Desired?: KeptPlan['desired']; Plan?: StackPlan }
  try {
    parsed = JSON.parse(readFileSync(path, 'utf8')) as typeof parsed
  } catch (error) {
    throw new CliError(`cannot read the plan ${path}: ${errorMessage(error)}`)
  }
  if (parsed.Format !== FORMAT || !parsed.Desired || !parsed.Plan) {
    throw new CliError(
      `${path} is no plan that this ${PROGRAM} can read: make one with "${PROGRAM} stack plan --out FILE"`,
    )
  }
  return { desired: parsed.Desired, plan: parsed.Plan }
}

/**
 * The secrets that carrying the plan out needs the contents of, with these.
 * @param given asks the compose files for the secrets as they have them now; undefined: none were named
 * @throws {CliError} where they are needed and not there, or not what they were when the plan was made
 */
export async function withContents(
  { desired, plan }: KeptPlan,
  given: (() => Promise<readonly SecretSpec[]>) | undefined,
): Promise<readonly SecretSpec[]> {
  // A daemon that does not compare contents has to be sent them to do so.
  const sent = plan.StoreVersion === undefined ? ['create', 'rotate', 'update'] : ['create', 'rotate']
  const isNew = ({ Kind, Action }: PlannedAction) => Kind === 'secret' && sent.includes(Action)
  const needed = new Set(plan.Actions.filter(isNew).map(({ Base }) => Base))
  const wanted = desired.secrets.filter(({ Name, Digest }) => Digest !== '' && needed.has(Name))
  if (wanted.length > 0 && !given) {
    const names = wanted.map(({ Name }) => Name).join(', ')
    throw new CliError(
      `the plan creates secrets (${names}), and no plan holds the contents of secrets: name the Compose files again with --compose-file. Nothing was changed.`,
    )
  }
  const now = wanted.length > 0 && given ? await given() : []
  return desired.secrets.map(({ Digest, ...spec }) => {
    if (!wanted.some(({ Name }) => Name === spec.Name)) return spec
    const found = now.find(({ Name }) => Name === spec.Name)
    if (found?.Data !== undefined && digested(found).Digest === Digest) return { ...spec, Data: found.Data }
    const how = found ? 'is not what it was when the plan was made' : 'is not in the Compose files'
    throw new CliError(`secret ${spec.Name} ${how}. Nothing was changed.`)
  })
}

/** @throws {CliError} naming each object that is not as it was when the plan was made */
export function requireUnmoved(stack: string, then: StackPlan, now: StackPlan): void {
  const key = ({ Kind, Name }: BaseObject) => `${Kind} ${Name}`
  const before = new Map(then.Base.map((each) => [key(each), each]))
  const after = new Map(now.Base.map((each) => [key(each), each]))
  const moved = [
    ...[...before].flatMap(([name, { ID, Version }]) => {
      const current = after.get(name)
      if (!current) return [`${name} is gone`]
      return current.ID === ID && current.Version === Version ? [] : [`${name} has changed`]
    }),
    ...[...after.keys()].filter((name) => !before.has(name)).map((name) => `${name} is new`),
  ]
  if (moved.length === 0) return
  throw new CliError(
    `the stack has moved since the plan was made:\n  ${moved.join('\n  ')}\nNothing was changed. Make a new plan with "${PROGRAM} stack plan ${stack}".`,
  )
}

// A plan kept for later: what was wanted, and what it was decided on. It holds the contents of secrets, so only its owner may read it.

import { chmodSync, readFileSync, writeFileSync } from 'node:fs'
import type { BaseObject, StackPlan } from '../../api/stack-plan.ts'
import { errorMessage } from '../../lib/errors.ts'
import { CliError } from '../command.ts'
import { PROGRAM } from '../help.ts'
import type { DesiredStack } from './desired-stack.ts'

const FORMAT = 1

export interface KeptPlan {
  readonly desired: DesiredStack
  readonly plan: StackPlan
}

export function writePlan(path: string, kept: KeptPlan): void {
  try {
    writeFileSync(
      path,
      `${JSON.stringify({ Format: FORMAT, Desired: kept.desired, Plan: kept.plan }, undefined, 1)}\n`,
      { mode: 0o600 },
    )
    chmodSync(path, 0o600)
  } catch (error) {
    throw new CliError(`cannot write the plan: ${errorMessage(error)}`)
  }
}

/** @throws {CliError} */
export function readPlan(path: string): KeptPlan {
  let parsed: { Format?: number; Desired?: DesiredStack; Plan?: StackPlan }
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

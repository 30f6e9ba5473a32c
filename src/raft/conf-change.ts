// Membership changes as a function from configuration to configuration (dissertation chapter 4). One step takes effect
// at once, for then the old and the new majorities overlap; several go through a joint configuration.

import type { ConfChange, ConfChangeStep, ConfState, Member, RaftId } from './types.ts'

/** `error` says, for people, why the change makes no sense in this configuration. */
export type ConfChangeResult =
  | { readonly kind: 'changed'; readonly conf: ConfState }
  | { readonly kind: 'invalid'; readonly error: string }

/** The change that leaves a joint configuration; proposed by the leader itself. */
export const LEAVE_JOINT: ConfChange = { steps: [] }

export const EMPTY_CONF: ConfState = { voters: [], learners: [], outgoing: [], learnersNext: [], members: [] }

export function isJoint(conf: ConfState): boolean {
  return conf.outgoing.length > 0
}

/** Everybody who gets entries. */
export function isMember(conf: ConfState, id: RaftId): boolean {
  return conf.members.some((member) => member.id === id)
}

export function applyConfChange(conf: ConfState, change: ConfChange): ConfChangeResult {
  if (change.steps.length === 0) return leaveJoint(conf)
  if (isJoint(conf)) return invalid('the last membership change is still under way')
  const draft: Draft = {
    voters: new Set(conf.voters),
    learners: new Set(conf.learners),
    addresses: new Map(conf.members.map((member) => [member.id, member.address])),
  }
  for (const step of change.steps) {
    const error = applyStep(draft, step)
    if (error !== undefined) return invalid(error)
  }
  if (draft.voters.size === 0) return invalid('a cluster needs at least one voter')
  return { kind: 'changed', conf: change.steps.length === 1 ? simple(draft) : joint(conf, draft) }
}

interface Draft {
  readonly voters: Set<RaftId>
  readonly learners: Set<RaftId>
  readonly addresses: Map<RaftId, string>
}

function applyStep(draft: Draft, step: ConfChangeStep): string | undefined {
  switch (step.kind) {
    case 'add-voter':
      draft.learners.delete(step.member.id)
      draft.voters.add(step.member.id)
      draft.addresses.set(step.member.id, step.member.address)
      return undefined
    case 'add-learner':
      draft.voters.delete(step.member.id)
      draft.learners.add(step.member.id)
      draft.addresses.set(step.member.id, step.member.address)
      return undefined
    case 'remove':
      if (!draft.addresses.delete(step.id)) return `${step.id} is no member`
      draft.voters.delete(step.id)
      draft.learners.delete(step.id)
      return undefined
    case 'update':
      if (!draft.addresses.has(step.member.id)) return `${step.member.id} is no member`
      draft.addresses.set(step.member.id, step.member.address)
      return undefined
  }
}

function simple(draft: Draft): ConfState {
  return {
    voters: sorted(draft.voters),
    learners: sorted(draft.learners),
    outgoing: [],
    learnersNext: [],
    members: membersOf(draft.addresses),
  }
}

function joint(old: ConfState, draft: Draft): ConfState {
  // Whoever leaves stays in the address book, and whoever is demoted goes on voting, until the joint configuration ends.
  const addresses = new Map([...old.members.map((member) => [member.id, member.address] as const), ...draft.addresses])
  const votesStill = (id: RaftId) => old.voters.includes(id)
  const staying = new Set([...draft.voters, ...draft.learners, ...old.voters])
  for (const id of addresses.keys()) if (!staying.has(id)) addresses.delete(id)
  return {
    voters: sorted(draft.voters),
    learners: sorted([...draft.learners].filter((id) => !votesStill(id))),
    outgoing: sorted(old.voters),
    learnersNext: sorted([...draft.learners].filter(votesStill)),
    members: membersOf(addresses),
  }
}

function leaveJoint(conf: ConfState): ConfChangeResult {
  if (!isJoint(conf)) return invalid('there is no joint configuration to leave')
  const learners = sorted([...conf.learners, ...conf.learnersNext])
  const staying = new Set([...conf.voters, ...learners])
  return {
    kind: 'changed',
    conf: {
      voters: conf.voters,
      learners,
      outgoing: [],
      learnersNext: [],
      members: conf.members.filter((member) => staying.has(member.id)),
    },
  }
}

function invalid(error: string): ConfChangeResult {
  return { kind: 'invalid', error }
}

/** Sorted, so that every member builds the same configuration, byte for byte. */
function sorted(ids: Iterable<RaftId>): readonly RaftId[] {
  return [...ids].sort(byCodeUnits)
}

function membersOf(addresses: ReadonlyMap<RaftId, string>): readonly Member[] {
  return sorted(addresses.keys()).map((id) => ({ id, address: addresses.get(id)! }))
}

function byCodeUnits(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

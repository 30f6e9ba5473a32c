// A configuration as plain arrays by position, for snapshots on disk and on the wire.

import { CodedError } from '../lib/errors.ts'
import type { ConfState, Member, RaftId } from './types.ts'

/** Far above any sensible cluster: what a damaged or hostile configuration may cost. */
const MAX_MEMBERS = 1_000

export function encodeConfState(conf: ConfState): unknown {
  return [
    conf.voters,
    conf.learners,
    conf.outgoing,
    conf.learnersNext,
    conf.members.map(({ id, address }) => [id, address]),
  ]
}

/** @throws {CodedError} RAFT_RECORD_CORRUPT naming `context` if `value` is no configuration. */
export function decodeConfState(value: unknown, context: string): ConfState {
  const fail = () =>
    new CodedError('RAFT_RECORD_CORRUPT', `${context} holds no configuration`, { details: { context } })
  if (!Array.isArray(value) || value.length !== 5) throw fail()
  const ids = (list: unknown): readonly RaftId[] => {
    if (!Array.isArray(list) || list.length > MAX_MEMBERS || !list.every((id) => typeof id === 'string')) throw fail()
    return list
  }
  const [voters, learners, outgoing, learnersNext, members] = value as readonly unknown[]
  if (!Array.isArray(members) || members.length > MAX_MEMBERS) throw fail()
  return {
    voters: ids(voters),
    learners: ids(learners),
    outgoing: ids(outgoing),
    learnersNext: ids(learnersNext),
    members: members.map((member: unknown): Member => {
      if (!Array.isArray(member) || typeof member[0] !== 'string' || typeof member[1] !== 'string') throw fail()
      return { id: member[0], address: member[1] }
    }),
  }
}

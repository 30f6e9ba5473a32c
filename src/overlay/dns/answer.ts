// From a question of a container to what it gets: pure. What is no name of its networks is for others to answer.

import { formatAddress } from '../../lib/cidr.ts'
import { CLASS_ANY, CLASS_IN, encodeName, encodeRecord, type Query, RCODE, type Reply, TYPE } from './message.ts'
import type { NameTable } from './name-table.ts'

/** What a question's answer consists of, to be sent any number of times; undefined: the question is not about names of ours. */
export type OwnAnswer = Pick<Reply, 'rcode' | 'records'>

export function answerOf(
  table: NameTable,
  networkIds: readonly string[],
  query: Pick<Query, 'name' | 'type' | 'class'>,
): OwnAnswer | undefined {
  const { name, type } = query
  if (query.class !== CLASS_IN && query.class !== CLASS_ANY) return undefined
  const address = reverseAddress(name)
  if (address !== undefined) {
    const names = table.findNames(networkIds, address)
    return names && reverseAnswer(names, type)
  }
  const found = table.find(networkIds, name)
  if (found.kind === 'unknown') return undefined
  if (found.kind === 'nonexistent') return { rcode: RCODE.NXDOMAIN, records: [] }
  const records = found.addresses.filter((each) => type === TYPE.ANY || type === each.type)
  return { rcode: RCODE.NOERROR, records: records.map(({ record }) => record) }
}

function reverseAnswer(names: readonly string[], type: number): OwnAnswer {
  if (names.length === 0) return { rcode: RCODE.NXDOMAIN, records: [] }
  const records = type === TYPE.PTR || type === TYPE.ANY ? names.flatMap((name) => encodeName(name) ?? []) : []
  return { rcode: RCODE.NOERROR, records: records.map((data) => encodeRecord(TYPE.PTR, 0, data)) }
}

const REVERSE_V4 = '.in-addr.arpa'
const REVERSE_V6 = '.ip6.arpa'

/** The address that `5.1.0.10.in-addr.arpa` or its like of IPv6 asks for; undefined for any other name. */
export function reverseAddress(name: string): string | undefined {
  if (name.endsWith(REVERSE_V4)) {
    const parts = name.slice(0, -REVERSE_V4.length).split('.')
    const valid = parts.length === 4 && parts.every((part) => /^(0|[1-9]\d{0,2})$/.test(part) && Number(part) < 256)
    return valid ? parts.toReversed().join('.') : undefined
  }
  if (name.endsWith(REVERSE_V6)) {
    const parts = name.slice(0, -REVERSE_V6.length).split('.')
    if (parts.length !== 32 || !parts.every((part) => /^[0-9a-f]$/.test(part))) return undefined
    return formatAddress({ family: 6, value: BigInt(`0x${parts.toReversed().join('')}`) })
  }
  return undefined
}

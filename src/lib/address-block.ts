// Which part of the gateway (ingress) network's subnet belongs to which node. The manager gives addresses out by it, and every
// node's kernel routes by it: both have to compute the same.

import { addressCount, type Cidr, widthOf } from './cidr.ts'

/** Of an ingress network: blocks of 256 addresses, larger where 4,096 of them leave room, smaller where there are few. */
const BLOCK_BITS = 8
const NODE_NUMBER_BITS = 12
const BLOCK_BITS_MIN = 4

export function blockBits(cidr: Cidr): number {
  const bits = widthOf(cidr.family) - cidr.prefix
  if (bits >= NODE_NUMBER_BITS + BLOCK_BITS) return Math.min(bits - NODE_NUMBER_BITS, 16)
  return Math.max(BLOCK_BITS_MIN, Math.min(BLOCK_BITS, bits - BLOCK_BITS))
}

/**
 * A node's block of an ingress network's subnet; undefined where the subnet ends before it. Its second address is the node's own:
 * the gateway of its containers, and its end towards the other nodes.
 */
export function blockOf(cidr: Cidr, number: number): Cidr | undefined {
  const bits = blockBits(cidr)
  const base = cidr.base + (BigInt(number) << BigInt(bits))
  if (base + (1n << BigInt(bits)) > cidr.base + addressCount(cidr)) return undefined
  return { family: cidr.family, base, prefix: widthOf(cidr.family) - bits }
}

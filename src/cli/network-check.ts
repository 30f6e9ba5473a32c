// `swarmctl network check`: every pair of nodes on every network, tried by the nodes themselves.

import type { NetworkCheckJson, NetworkProbeJson } from '../api/network-check.ts'
import { CliError, type Context } from './command.ts'
import type { Flags } from './flags.ts'
import { compareNatural } from './natural-order.ts'
import { renderListing, row } from './output/listing.ts'

/** Exits with 1 where something does not work; what that is stands on stderr, so that templates get rows only. */
export async function check(context: Context, flags: Flags, operands: readonly string[]): Promise<void> {
  const client = await context.client()
  const query = operands[0] === undefined ? {} : { network: operands[0] }
  const answer = await client.json<NetworkCheckJson>('GET', '/swarmd/network-check', { query })
  const probes = [...answer.Probes].sort(
    (a, b) => compareNatural(a.Network, b.Network) || compareNatural(a.From, b.From) || compareNatural(a.To, b.To),
  )
  context.stdout.write(
    renderListing({
      format: flags.text('format'),
      quiet: false,
      table: '{{.Network}}\t{{.From}}\t{{.To}}\t{{.Address}}\t{{.State}}\t{{.Loss}}\t{{.RoundTrip}}\t{{.MTU}}',
      headers: {
        NetworkID: 'NETWORK ID',
        Network: 'NETWORK',
        From: 'FROM',
        To: 'TO',
        Address: 'ADDRESS',
        State: 'STATE',
        Loss: 'LOSS',
        RoundTrip: 'ROUND TRIP',
        MTU: 'MTU',
      },
      rows: probes.map((probe) => row('*network.checkContext', fieldsOf(probe))),
    }),
  )
  if (answer.Problems.length > 0) throw new CliError(answer.Problems.join('\n'))
}

function fieldsOf(probe: NetworkProbeJson): Record<string, string> {
  const { Sent, Answered, RoundTripMs, MTU, MTUPasses } = probe
  return {
    NetworkID: probe.NetworkID,
    Network: probe.Network,
    From: probe.From,
    To: probe.To,
    Address: probe.Address,
    State: probe.State,
    Loss: Sent === 0 ? '' : `${Math.round((100 * (Sent - Answered)) / Sent)}%`,
    RoundTrip: Answered === 0 ? '' : `${RoundTripMs} ms`,
    MTU: MTU === 0 || Answered === 0 ? '' : MTUPasses ? String(MTU) : `below ${MTU}`,
  }
}

// `swarmctl secret …`

import { goTimeText, sortedPairs } from './output/pretty.ts'
import { payloadCommands } from './payload.ts'
import { secretShape } from './shapes/swarm.ts'

export const secretCommands = payloadCommands({
  kind: 'secret',
  maxBytes: 500 * 1024,
  shape: secretShape,
  listing: {
    table: '{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}',
    headers: { ID: 'ID', Name: 'NAME', Driver: 'DRIVER', CreatedAt: 'CREATED', UpdatedAt: 'UPDATED', Labels: 'LABELS' },
  },
  defaultFormat: (context) => context.config.secretFormat,
  pretty: (secret) => {
    const labels = sortedPairs(secret.Spec.Labels)
    return [
      `ID:              ${secret.ID}`,
      `Name:              ${secret.Spec.Name ?? ''}`,
      ...(labels.length > 0
        ? ['Labels:', ...labels.map(([key, value]) => ` - ${key}${value ? `=${value}` : ''}`)]
        : []),
      `Driver:            ${secret.Spec.Driver?.Name ?? ''}`,
      `Created at:        ${goTimeText(secret.CreatedAt)}`,
      `Updated at:        ${goTimeText(secret.UpdatedAt)}`,
    ].join('\n')
  },
})

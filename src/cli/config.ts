// `swarmctl config …`

import { goTimeText, sortedPairs } from './output/pretty.ts'
import { payloadCommands } from './payload.ts'
import { configShape } from './shapes/swarm.ts'

export const configCommands = payloadCommands({
  kind: 'config',
  maxBytes: 1000 * 1024,
  shape: configShape,
  listing: {
    table: '{{.ID}}\t{{.Name}}\t{{.CreatedAt}}\t{{.UpdatedAt}}',
    headers: { ID: 'ID', Name: 'NAME', CreatedAt: 'CREATED', UpdatedAt: 'UPDATED', Labels: 'LABELS' },
  },
  defaultFormat: (context) => context.config.configFormat,
  pretty: (config) => {
    const labels = sortedPairs(config.Spec.Labels)
    return [
      `ID:\t\t\t${config.ID}`,
      `Name:\t\t\t${config.Spec.Name ?? ''}`,
      ...(labels.length > 0
        ? ['Labels:', ...labels.map(([key, value]) => ` - ${key}${value ? `=${value}` : ''}`)]
        : []),
      `Created at:            \t${goTimeText(config.CreatedAt)}`,
      `Updated at:            \t${goTimeText(config.UpdatedAt)}`,
      'Data:',
      Buffer.from(config.Spec.Data ?? '', 'base64').toString(),
    ].join('\n')
  },
})

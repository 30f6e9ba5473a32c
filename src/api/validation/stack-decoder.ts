// The body of a request to plan a stack.

import type { WantedNetwork, WantedPayload, WantedService, WantedStack } from '../stack-plan.ts'
import { always, flag, labels, list, object, text } from './decode.ts'
import { configReference, driver, secretReference, serviceSpecDecoder } from './service-decoder.ts'

const network = object<WantedNetwork>({
  Name: always(text, ''),
  Driver: text,
  Options: labels,
  IPAM: object({
    Driver: text,
    Config: list(object({ Subnet: text, IPRange: text, Gateway: text, AuxiliaryAddresses: labels })),
  }),
  Internal: flag,
  Attachable: flag,
  EnableIPv6: flag,
  Labels: labels,
})

const payload = object<WantedPayload>({
  Name: always(text, ''),
  Labels: labels,
  Digest: always(text, ''),
  Driver: driver,
  Templating: driver,
})

const service = object<WantedService>({
  Spec: always(serviceSpecDecoder, {}),
  Secrets: always(list(secretReference), []),
  Configs: always(list(configReference), []),
  KeepImage: always(flag, false),
})

export const wantedStackDecoder = object<WantedStack>({
  Networks: always(list(network), []),
  Secrets: always(list(payload), []),
  Configs: always(list(payload), []),
  Services: always(list(service), []),
  Prune: always(flag, false),
})

"""The stand-in for torch in AITER's scripts that write instances: they ask how many compute units the device has."""


class _Device:
    multi_processor_count = 0
    gcnArchName = ""


class cuda:
    device = _Device

    @staticmethod
    def is_available():
        return True

    @staticmethod
    def current_device():
        return 0

    @staticmethod
    def get_device_properties(device):
        return cuda.device

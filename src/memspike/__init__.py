"""memspike: deep networks on spiking memristor hardware."""
